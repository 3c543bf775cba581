"""The tensors of a file, whatever its format, and the models among them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvar_jax.checks import check
from mvar_jax.convert.pth import read_pth
from mvar_jax.convert.safetensors import read_safetensors
from mvar_jax.convert.stored_tensor import StoredTensor
from mvar_jax.convert.tokenizer_names import with_wrappers

TOKENIZERS = ("vqvae", "bsqvae")
ARCHITECTURES = ("mvar", "var", *TOKENIZERS)
TRUNK_MARK = "pos_1LC"
# Tensors that tell a tokenizer; the first that is there counts. The last two are the same one.
TOKENIZER_MARKS = {
    "quantize.embedding.weight": "vqvae",
    "encoder.conv_in.conv.weight": "bsqvae",
    "encoder.conv_in.weight": "bsqvae",
}

# What files that hold no weights begin with.
OTHERS = {
    b"<": "is an HTML page, expected weights; the download failed, fetch the file itself",
    b"version https://git-lfs": "is a Git LFS pointer, expected weights; run git lfs pull",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19": "is in PyTorch's format of before version 1.6, "
    "expected a zip archive; load and save it again with a newer PyTorch",
}


@dataclass(frozen=True)
class StateDict:
    """The state dict of one model in a file, under its official names."""

    architecture: str  # one of ARCHITECTURES
    tensors: Mapping[str, StoredTensor]


def find_state_dict(file: Path, architecture: str | None = None) -> StateDict:
    """The model in a .pth, .pt or .safetensors file, told apart by content; nothing is loaded.

    Training checkpoints keep models in nested dicts; wrappers put "module." and the like before
    every name. Where a file holds a trunk and a tokenizer, the trunk is meant unless
    `architecture` says otherwise. Raises ValueError for a file that is damaged, holds anything
    but tensors and plain containers, no such model or several.
    """
    try:
        tensors = _flatten(_read(file))
        name, prefix = _choose(tensors, architecture)
        inner = {
            key.removeprefix(prefix): tensor
            for key, tensor in tensors.items()
            if key.startswith(prefix)
        }
        found = {key: tensor for key, tensor in inner.items() if "/" not in key}  # no dict inside
        found = with_wrappers(found) if name == "bsqvae" else found
        size, total = file.stat().st_size, sum(tensor.nbytes for tensor in found.values())
        check(total <= size, f"its tensors take {total} bytes, more than the file's {size}")
    except ValueError as error:
        raise ValueError(f"{file}: {error}.") from None
    return StateDict(name, found)


def read_tensors(file: Path) -> dict[str, StoredTensor]:
    """Every tensor of a .pth, .bin or .safetensors file by name; nothing is loaded.

    Names in nested dicts are joined by "/". Raises ValueError, without a final stop, for a file
    that is damaged or holds anything but tensors and plain containers.
    """
    try:
        return _flatten(_read(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _read(file: Path) -> Any:
    with file.open("rb") as stream:
        head = stream.read(512)
    check(head != b"", "is empty, expected weights")
    for beginning, what in OTHERS.items():
        check(not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(beginning), what)
    if head.startswith(b"PK"):
        return read_pth(file)
    check(
        head[8:9] == b"{",
        "is neither a zip archive of PyTorch nor a safetensors file, expected one of them",
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


def _choose(tensors: Mapping[str, StoredTensor], wanted: str | None) -> tuple[str, str]:
    """Architecture and prefix of the model that is meant."""
    models = _models(tensors)
    first = next(iter(tensors), "no tensor")
    check(
        len(models) > 0,
        f"holds neither {TRUNK_MARK} (of VAR and M-VAR) nor {_list(TOKENIZER_MARKS)} (of their "
        f"tokenizers); it begins with {first}",
    )
    names = set(models.values())
    if wanted is None:
        wanted = next(name for name in ARCHITECTURES if name in names)
    check(wanted in names, f"holds the weights of {_list(names)}, expected {wanted} by --arch")
    prefixes = [prefix for prefix, name in models.items() if name == wanted]
    check(
        len(prefixes) == 1,
        f"holds several models {wanted}: {_list(prefix or 'the outermost' for prefix in prefixes)}"
        "; save the one that you mean alone",
    )
    return wanted, prefixes[0]


def _models(tensors: Mapping[str, StoredTensor]) -> dict[str, str]:
    """The architecture behind every prefix."""
    models = {prefix: _architecture(tensors, prefix) for prefix in _before(tensors, TRUNK_MARK)}
    for mark, name in TOKENIZER_MARKS.items():
        for prefix in _before(tensors, mark):
            models.setdefault(prefix, name)
    return models


def _before(tensors: Mapping[str, StoredTensor], mark: str) -> Iterator[str]:
    """What stands before a name, wherever it is."""
    for key in tensors:
        prefix = key.removesuffix(mark)
        if key.endswith(mark) and (prefix == "" or prefix[-1] in "/."):
            yield prefix


def _architecture(tensors: Mapping[str, StoredTensor], prefix: str) -> str:
    blocks = f"{prefix}blocks."
    ssm = any(key.startswith(blocks) and ".mamba." in key for key in tensors)
    return "mvar" if ssm else "var"


def _list(names) -> str:
    return ", ".join(sorted(names))
