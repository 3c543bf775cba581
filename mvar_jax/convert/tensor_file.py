"""The tensors of a file, or of the files in a folder, whatever their format."""

from pathlib import Path
from typing import Any

from mvar_jax.checks import check
from mvar_jax.convert.early_pth import BEGINNING, read_early_pth
from mvar_jax.convert.pth import read_pth
from mvar_jax.files import load_json
from mvar_jax.tensor_files.safetensors import read_safetensors
from mvar_jax.tensor_files.stored_tensor import StoredTensor

# What a folder may hold: one of these files, or shards with their index.
FILES = ("model.safetensors", "pytorch_model.bin")
INDICES = tuple(f"{name}.index.json" for name in FILES)
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")

# What files that hold no weights begin with.
OTHERS = {
    b"<": "is an HTML page, expected weights; the download failed, fetch the file itself",
    b"version https://git-lfs": "is a Git LFS pointer, expected weights; run git lfs pull",
}


def read_tensors(path: Path, *, unread: tuple[str, ...] = ()) -> dict[str, StoredTensor]:
    """Every tensor of a .pth, .bin or .safetensors file, or of a folder, by name; none is loaded.

    A folder holds `model.safetensors`, `pytorch_model.bin`, shards of either with their index, or
    one other file of weights. Shards are not opened for names that begin with one of `unread`.
    Names in nested dicts are joined by "/". Raises ValueError for a file that is damaged or holds
    anything but tensors and plain containers, and for an index that does not fit its folder.
    """
    file = _file_in(path) if path.is_dir() else path
    return _read_shards(file, unread) if file.name in INDICES else _read_file(file)


def _file_in(folder: Path) -> Path:
    """The file of all weights in a folder, or the index of its shards."""
    for name in (*FILES, *INDICES):
        if (folder / name).is_file():
            return folder / name
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    check(
        len(files) == 1,
        f"{folder}: holds {len(files)} files of weights, expected {' or '.join(FILES)}, the index "
        f"of its shards, or a single other file that ends in {', '.join(SUFFIXES)}.",
    )
    return files[0]


def _read_shards(index: Path, unread: tuple[str, ...]) -> dict[str, StoredTensor]:
    """The tensors that an index names, each in the file where it says they are."""
    try:
        places = load_json(index)["weight_map"]
        sound = all(isinstance(file, str) and Path(file).name == file for file in places.values())
    except (AttributeError, KeyError, TypeError, ValueError):
        sound = False
    check(sound, f"{index}: not an index of shards (names to files beside it); fetch it again.")
    wanted = {name: file for name, file in places.items() if not name.startswith(unread)}
    for file in sorted(set(wanted.values())):
        check(
            (index.parent / file).is_file(),
            f"{index}: names the shard {file!r}, which is not there; fetch it too.",
        )
    shards = {file: _read_file(index.parent / file) for file in set(wanted.values())}
    for name, file in wanted.items():
        check(
            name in shards[file],
            f"{index.parent / file}: {name} is missing, which {index.name} says is there; fetch "
            "both again.",
        )
    return {name: shards[file][name] for name, file in wanted.items()}


def _read_file(file: Path) -> dict[str, StoredTensor]:
    try:
        return _flatten(_read_tree(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error}.") from None


def _read_tree(file: Path) -> Any:
    with file.open("rb") as stream:
        head = stream.read(512)
    check(head != b"", "is empty, expected weights")
    for beginning, what in OTHERS.items():
        check(not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(beginning), what)
    if head.startswith(b"PK"):
        return read_pth(file)
    if head.startswith(BEGINNING):
        return read_early_pth(file)
    check(
        head[8:9] == b"{",
        "is neither of PyTorch nor a safetensors file, expected one of them",
    )
    return read_safetensors(file)


def _flatten(tree: Any) -> dict[str, StoredTensor]:
    """Every tensor that is reached through dicts, by its keys joined by "/"; each dict once."""
    tensors: dict[str, StoredTensor] = {}
    seen, waiting = set(), [("", tree)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, StoredTensor):
            tensors.setdefault(path, node)
        elif isinstance(node, dict) and id(node) not in seen:
            seen.add(id(node))
            inner = [(f"{path}/{key}".removeprefix("/"), value) for key, value in node.items()]
            waiting.extend(reversed(inner))
    return tensors
