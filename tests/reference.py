"""Reference arrays of the original implementations, and the weights they were computed with.

`NAME.npz` holds the arrays; `configs.json` beside it tells of every NAME its configuration, the
prefix of hashed names, the official parameter order where gradients are stored, and how far float32
and float64 runs of the original differ in every array. A file of another network has its
configuration in its own entry `config`, as JSON; how far its runs differ is in `ROUNDING`. Weights
are not stored: a parameter's values follow from its official name and shape (PyTorch layout)
through `recipe_weights`.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvar_jax.convert.names import Entry
from tests.network_weights import network_weights, recipe_array, recipe_generator

TEXT_EMBEDDING = "shared.weight"  # of T5
GOLDEN = Path(__file__).parent / "golden"
# Of files that describe themselves: the largest difference between float32 and float64 by name,
# over all files that the original was run for.
ROUNDING = {
    r"(long_)?hidden_[1-9]\d*|block0_\w+": 2e-5,
    r"(long_)?last_hidden_state|single_padding_check_max_abs": 1e-5,
    r"act_\w+|spatial|logits(_unbiased)?": 8e-6,
    r"gap_\w+|pool3|feat\d+": 2e-6,
    r"probs": 5e-7,
    r"pool3_pytorch_fid_preprocessing": 3e-5,
    r"scaled_input_0|feature_\d(_gap)?": 2e-5,
    r"(layers|total)_\w+|unit_out_float64": 3e-7,
    r"spatial_map_\w+": 1e-6,
    r"grad_b64_first2": 2e-8,
    # Of what other packages return for the same: their own distance from the exact number.
    r"[a-e]_fid_(scipy|eigvals)\w*": 1e-6,
    r"kid\w+": 1e-11,
    r"d_fid_\w+": 1e-9,
}
EXACT = 1e-9  # relative, of float64 numbers


def recipe_weights(
    shapes: Mapping[str, tuple[int, ...]], prefix: str = ""
) -> dict[str, np.ndarray]:
    """A weight for every official name, given its shape in PyTorch order."""
    weights = {
        name: recipe_array(prefix + name, shape, *_std_and_mean(name, shape))
        for name, shape in shapes.items()
    }
    if TEXT_EMBEDDING in weights:  # some rows so short that the epsilon of a norm shows
        weights[TEXT_EMBEDDING][3::16] *= np.float32(0.001)
    return weights


def _std_and_mean(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Spread and mean of a parameter; the first rule that fits its official name counts."""
    *_, parent, last = ("", *name.split("."))
    inverse_root = 1 / math.sqrt(math.prod(shape[1:]))
    rules = (
        (name == TEXT_EMBEDDING, 1.0, 0.2),
        (parent == "layer_norm" or name == "encoder.final_layer_norm.weight", 0.2, 1.0),
        (parent == "relative_attention_bias", 1.0, 0.0),
        (name.endswith("SelfAttention.q.weight"), 0.6 * inverse_root, 0.0),
        (parent == "wi_0", 1.5 * inverse_root, 0.0),
        (last == "A_log", 0.6, 1.0),
        (last == "dt_bias", 1.0, -3.0),
        (last == "D", 0.25, 0.5),
        (last == "scale_mul_1H11", 1.2, 2.5),
        (last == "ada_gss", 0.5, 0.0),
        (parent.startswith("norm") and last == "weight", 0.1, 1.0),
        (name.endswith("ada_lin.1.bias"), 0.5, 0.0),
        (last.endswith("bias"), 0.1, 0.0),
        (name.endswith("class_emb.weight"), 1.0, 0.0),
        (last in ("pos_start", "pos_1LC") or name.endswith("lvl_embed.weight"), 1.0, 0.0),
        (name.endswith("quantize.embedding.weight"), 0.4, 0.0),
        (name.startswith("quantize.quant_resi.") and last == "weight", 0.5 * inverse_root, 0.0),
        (name.endswith(("mat_qkv.weight", "word_embed.weight")), 2 * inverse_root, 0.0),
        (name.endswith("head_nm.ada_lin.1.weight"), 0.3 * inverse_root, 0.0),
        (name.endswith("ada_lin.1.weight"), 0.6 * inverse_root, 0.0),
        (name.endswith("head.weight"), 3 * inverse_root, 0.0),
        (True, inverse_root, 0.0),
    )
    return next((std, mean) for fits, std, mean in rules if fits)


@dataclass(frozen=True)
class ReferenceFile:
    """The arrays of `NAME.npz`, and what `configs.json` beside it, or the file, says of them."""

    name: str
    arrays: Mapping[str, np.ndarray]
    described: Mapping[str, Mapping]  # all entries of configs.json

    @classmethod
    def load(cls, path: Path) -> "ReferenceFile":
        """Reads a file. Raises OSError or ValueError where it is none, or is not described."""
        listed = path.parent / "configs.json"
        described = json.loads(listed.read_text()) if listed.exists() else {}
        with np.load(path) as stored:
            arrays = dict(stored)
        if path.stem not in described:
            if "config" not in arrays:
                raise ValueError(f"{path}: not described by {listed}, nor by itself.")
            described = {path.stem: _describe_itself(arrays)}
        return cls(path.stem, arrays, described)

    @property
    def entry(self) -> Mapping:
        """All that is said of the file."""
        return self.described[self.name]

    @property
    def info(self) -> Mapping:
        """Further facts, such as the official order of parameters."""
        return self.entry.get("info") or {}

    @property
    def config(self) -> Mapping:
        """The configuration; components keep theirs with other facts."""
        return self.entry.get("config") or self.info

    @property
    def tokenizer_config(self) -> Mapping:
        """The configuration of the tokenizer that a trunk's file was computed with."""
        named = self.config.get("vae_config")
        return named or self.described[self.config["vae"]]["config"]

    @property
    def prefix(self) -> str:
        """What stands before every hashed name."""
        return self.entry.get("prefix", "")

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def tolerance(self, name: str) -> float:
        """Largest allowed difference: ten times the reference's rounding, or 2e-6 of its size.

        Of float64 numbers it is 1e-9. Integers and truth values must agree exactly. Nothing is
        allowed beyond, however a quantity amplifies rounding: the reference's own difference is
        amplified alike.
        """
        expected = self.arrays[name]
        if np.issubdtype(expected.dtype, np.integer) or expected.dtype == bool:
            return 0.0
        rounding = self.entry["float32_vs_float64"].get(name, {}).get("max_abs", 0.0)
        largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
        return max(10 * rounding, (EXACT if expected.dtype == np.float64 else 2e-6) * largest)

    def weights(self, entries: Iterable[Entry]) -> dict[str, np.ndarray]:
        """Official tensors by the recipe, for the entries of a table of names."""
        shapes = {entry.official: entry.official_shape for entry in entries}
        return recipe_weights(shapes, self.prefix)

    def network_weights(self, entries: Iterable[Entry]) -> dict[str, np.ndarray]:
        """The same of the networks that images are measured by, whose recipe is another."""
        return network_weights(
            {entry.official: entry.official_shape for entry in entries}, self.prefix
        )

    def normal(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An input by the recipe: standard normal numbers seeded by its name."""
        return recipe_array(self.prefix + name, shape)

    def generator(self, name: str) -> np.random.Generator:
        """The generator that an input's name seeds."""
        return recipe_generator(self.prefix + name)


def _describe_itself(arrays: dict[str, np.ndarray]) -> dict:
    """What `configs.json` would say of a file that holds its configuration; that is taken out."""
    config = json.loads(str(arrays.pop("config")))
    differences = {
        name: {"max_abs": rounding}
        for name in arrays
        for pattern, rounding in ROUNDING.items()
        if re.fullmatch(pattern, name)
    }
    prefix = config.get("prefix", "")
    return {"config": config, "prefix": prefix, "float32_vs_float64": differences}


def load_golden(name: str) -> ReferenceFile:
    """A reference file that the tests keep."""
    return ReferenceFile.load(GOLDEN / f"{name}.npz")
