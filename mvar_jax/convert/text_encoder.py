"""Text encoders from a folder of official weights with their tokenizer."""

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mvar_jax.array_types import Params, PyTree
from mvar_jax.checks import check, install_command
from mvar_jax.convert.checks import check_tensors
from mvar_jax.convert.find_t5 import find_t5
from mvar_jax.convert.names import read_arrays
from mvar_jax.convert.shapes import Shapes
from mvar_jax.convert.state_dict import t5_state
from mvar_jax.convert.t5_names import ALIAS, EMBEDDING, NOT_NEEDED, t5_entries
from mvar_jax.convert.tensor_file import read_tensors
from mvar_jax.files import load_json
from mvar_jax.hub import TEXT_ENCODER, local_path
from mvar_jax.models.parameters import param_shardings
from mvar_jax.tensor_files.safetensors import read_safetensors
from mvar_jax.tensor_files.stored_tensor import StoredTensor
from mvar_jax.text import T5Config, T5Encoder, TextEncoder, WordEmbeddings, read_features
from mvar_jax.text.feature_file import holds_features
from mvar_jax.text.prompts import MAX_LENGTH, read_json, read_prompt_tokenizer, read_tokenizer_file

WORDS = "wordllama"
SETTINGS = {  # of a config.json
    "relative_attention_max_distance": "max_distance",
    "layer_norm_epsilon": "norm_epsilon",
}
GATED = "gated-gelu"
SMALL = ("scale", "position_bias")  # last names of paths


def load_text_encoder(
    source: str | Path, *, dtype: str = "float32", mesh: Mesh | None = None
) -> T5Encoder | WordEmbeddings:
    """The T5 of a folder with its tokenizer, or "wordllama", the embeddings of that package.

    The folder may be one of the Hugging Face Hub, as `hf://google/flan-t5-xl`.

    The folder holds `model.safetensors`, `pytorch_model.bin`, shards of either with their index, or
    one other file of weights; `tokenizer.json` or `spiece.model`; perhaps `config.json`. Matmuls
    and their weights are in `dtype`, "float32" or "bfloat16"; an XL takes 4.9 or 2.5 GB. With a
    mesh its weights are split. Raises ValueError for anything else there.
    """
    folder = local_path(source, TEXT_ENCODER)
    if str(source) == WORDS and not folder.exists():
        return _load_words()
    check(folder.is_dir(), f"{folder}: no such folder, expected one with a T5, or {WORDS!r}.")
    tokenizer = read_prompt_tokenizer(folder)
    config, tensors = find_encoder(folder, dtype=dtype)
    params = load_t5(config, tensors, mesh=mesh)
    return T5Encoder(folder.resolve().name, config, params, tokenizer, mesh)


def open_text_encoder(source: str | Path) -> TextEncoder:
    """The text encoder that a config names: as `load_text_encoder`, or stored features.

    Raises ValueError as that does, and as `read_features` does.
    """
    folder = local_path(source, TEXT_ENCODER)
    return read_features(folder) if holds_features(folder) else load_text_encoder(folder)


def find_encoder(
    folder: Path, *, dtype: str = "float32"
) -> tuple[T5Config, dict[str, StoredTensor]]:
    """The configuration of the T5 encoder in a folder, and its tensors; nothing is loaded."""
    tensors = _encoder_tensors(read_tensors(folder, unread=NOT_NEEDED))
    settings = _settings(folder / "config.json")
    try:
        shapes = Shapes({name: tensor.shape for name, tensor in tensors.items()})
        config = find_t5(shapes, compute_dtype=dtype, **settings)
        check_tensors(tensors, t5_state(config))
    except ValueError as error:
        raise ValueError(f"{folder}: {str(error).rstrip('.')}.") from None
    return config, tensors


def load_t5(
    config: T5Config, tensors: Mapping[str, StoredTensor], *, mesh: Mesh | None = None
) -> Params:
    """The parameters of `T5` on the devices: one array after another, so that none is there twice.

    Kernels are in the compute dtype; norms and the bias of positions, which are small, in float32.
    """
    params: Params = {}
    entries = list(t5_entries(config))
    for small, dtype in ((True, jnp.dtype("float32")), (False, config.dtype)):
        own = [entry for entry in entries if (entry.path[-1] in SMALL) == small]
        for path, array in read_arrays(own, tensors, dtype):
            node = params
            for name in path[:-1]:
                node = node.setdefault(name, {})
            # A copy of what is only mapped: JAX may compute on the memory that it is given.
            node[path[-1]] = _place(path, np.require(array, dtype, "W"), mesh)
    return params


def _place(path: tuple[str, ...], array: np.ndarray, mesh: Mesh | None) -> jax.Array:
    if mesh is None:
        return jax.device_put(array)
    tree: PyTree = array
    for name in reversed(path):
        tree = {name: tree}
    (placed,) = jax.tree.leaves(jax.device_put(tree, param_shardings(tree, mesh)))
    return placed


def _encoder_tensors(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors of the encoder alone, each under one name."""
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(NOT_NEEDED)}
    alias = own.pop(ALIAS, None)
    return own if alias is None else {EMBEDDING: alias} | own


def _settings(file: Path) -> dict[str, Any]:
    """What a `config.json` says that tensors do not tell; nothing where there is none."""
    if not file.is_file():
        return {}
    try:
        said = load_json(file)
        kind = said.get("feed_forward_proj", GATED)
        settings = {own: said[name] for name, own in SETTINGS.items() if name in said}
        sound = all(type(value) in (int, float) and value > 0 for value in settings.values())
    except (AttributeError, ValueError):
        sound = False
    check(sound, f"{file}: not the config of a T5; fetch it again, or delete it.")
    check(kind == GATED, f"{file}: feed_forward_proj is {kind!r}, expected {GATED!r} of T5 v1.1.")
    return settings


def _load_words() -> WordEmbeddings:
    """The token embeddings that the package `wordllama` ships; none of its code is run."""
    spec = importlib.util.find_spec(WORDS)
    if spec is None or spec.origin is None or importlib.util.find_spec("tokenizers") is None:
        raise ValueError(
            f"wordllama: the package is not installed; install it by {install_command('words')}."
        )
    folder = Path(spec.origin).parent
    weights = _only(folder.glob("weights/*.safetensors"))
    tokenizer = _only(folder.glob("tokenizers/*.json"))
    (tensor,) = read_safetensors(weights).values()
    split = read_tokenizer_file(tokenizer, read_json, max_length=MAX_LENGTH)
    return WordEmbeddings(weights.stem, np.asarray(tensor, np.float32), split)


def _only(files: Iterable[Path]) -> Path:
    found = list(files)
    check(len(found) == 1, f"wordllama: holds {len(found)} files, expected one; install it again.")
    return found[0]
