"""Finds the model that is meant among the tensors of a file, told apart by their names."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mvar_jax.checks import check
from mvar_jax.convert.tensor_file import read_tensors
from mvar_jax.convert.tokenizer_names import with_wrappers
from mvar_jax.tensor_files.stored_tensor import StoredTensor

TOKENIZERS = ("vqvae", "bsqvae")
ARCHITECTURES = ("mvar", "var", "infinity", *TOKENIZERS)
# Tensors that tell a model; the first that is there counts. The last two are the same one.
MARKS = {
    "pos_1LC": "var",  # or "mvar"
    "text_proj_for_sos.ca.mat_q": "infinity",
    "quantize.embedding.weight": "vqvae",
    "encoder.conv_in.conv.weight": "bsqvae",
    "encoder.conv_in.weight": "bsqvae",
}
# Of the dicts in a training checkpoint: the weights, and their average over the training.
TRAINED, AVERAGED = "gpt_fsdp", "gpt_ema_fsdp"


@dataclass(frozen=True)
class StateDict:
    """The state dict of one model in a file, under its official names."""

    architecture: str  # one of ARCHITECTURES
    tensors: Mapping[str, StoredTensor]
    averaged: bool = False  # over the training, as far as the file says


def find_state_dict(path: Path, architecture: str | None = None) -> StateDict:
    """The model in a .pth, .pt or .safetensors file, or in a folder of them; nothing is loaded.

    Training checkpoints keep models in nested dicts; wrappers put "module." and the like before
    every name. Where a file holds a trunk and a tokenizer, the trunk is meant unless
    `architecture` says otherwise; where it holds averaged weights of one too, these are. Raises
    ValueError as `read_tensors` does, and for a file that holds no such model or several.
    """
    tensors = read_tensors(path)
    try:
        name, prefix = _choose(tensors, architecture)
        inner = {
            key.removeprefix(prefix): tensor
            for key, tensor in tensors.items()
            if key.startswith(prefix)
        }
        found = {key: tensor for key, tensor in inner.items() if "/" not in key}  # no dict inside
        found = with_wrappers(found) if name == "bsqvae" else found
        files = {tensor.file for tensor in found.values()}
        size, total = (
            sum(file.stat().st_size for file in files),
            sum(tensor.nbytes for tensor in found.values()),
        )
        check(total <= size, f"its tensors take {total} bytes, more than the file's {size}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}.") from None
    return StateDict(name, found, AVERAGED in prefix)


def _choose(tensors: Mapping[str, StoredTensor], wanted: str | None) -> tuple[str, str]:
    """Architecture and prefix of the model that is meant."""
    models = _models(tensors)
    names = set(models.values())
    check(
        names != set(),
        f"holds none of the tensors that tell a model ({', '.join(MARKS)}); it begins with "
        f"{next(iter(tensors), 'no tensor')}",
    )
    if wanted is None:
        trunks = names - set(TOKENIZERS)
        check(len(trunks) < 2, f"holds the weights of {_list(names)}; say which by --arch")
        wanted = next(name for name in ARCHITECTURES if name in names)
    check(wanted in names, f"holds the weights of {_list(names)}, expected {wanted} by --arch")
    prefixes = _without_averaged(prefix for prefix, name in models.items() if name == wanted)
    check(
        len(prefixes) == 1,
        f"holds several models {wanted}: {_list(prefix or 'the outermost' for prefix in prefixes)}"
        "; save the one that you mean alone",
    )
    return wanted, prefixes[0]


def _without_averaged(prefixes: Iterable[str]) -> list[str]:
    """The prefixes of models whose average is not there too."""
    prefixes = list(prefixes)
    copied = {prefix.replace(AVERAGED, TRAINED) for prefix in prefixes if AVERAGED in prefix}
    return [prefix for prefix in prefixes if prefix not in copied]


def _models(tensors: Mapping[str, StoredTensor]) -> dict[str, str]:
    """The architecture behind every prefix."""
    models: dict[str, str] = {}
    for mark, name in MARKS.items():
        for prefix in _before(tensors, mark):
            models.setdefault(prefix, name)
    return {
        prefix: "mvar" if name == "var" and _has_ssm(tensors, prefix) else name
        for prefix, name in models.items()
    }


def _before(tensors: Mapping[str, StoredTensor], mark: str) -> Iterator[str]:
    """What stands before a name, wherever it is."""
    for key in tensors:
        prefix = key.removesuffix(mark)
        if key.endswith(mark) and (prefix == "" or prefix[-1] in "/."):
            yield prefix


def _has_ssm(tensors: Mapping[str, StoredTensor], prefix: str) -> bool:
    blocks = f"{prefix}blocks."
    return any(key.startswith(blocks) and ".mamba." in key for key in tensors)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
