"""Reference arrays of the original implementations, and the weights they were computed with.

`NAME.npz` holds the arrays; `configs.json` beside it tells of every NAME its configuration, the
prefix of hashed names, the official parameter order where gradients are stored, and how far float32
and float64 runs of the original differ in every array. Weights are not stored: a parameter's values
follow from its official name and shape (PyTorch layout) through `recipe_weights`.
"""

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvar_jax.convert.names import Entry

GOLDEN = Path(__file__).parent / "golden"


def recipe_generator(name: str) -> np.random.Generator:
    """The random numbers that belong to a name."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def recipe_array(name: str, shape: tuple[int, ...], std: float = 1.0, mean: float = 0.0):
    """float32 normal numbers of a shape, seeded by the name."""
    values = recipe_generator(name).standard_normal(shape, dtype=np.float32)
    return values * np.float32(std) + np.float32(mean)


def recipe_weights(
    shapes: Mapping[str, tuple[int, ...]], prefix: str = ""
) -> dict[str, np.ndarray]:
    """A weight for every official name, given its shape in PyTorch order."""
    return {
        name: recipe_array(prefix + name, shape, *_std_and_mean(name, shape))
        for name, shape in shapes.items()
    }


def _std_and_mean(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Spread and mean of a parameter; the first rule that fits its official name counts."""
    *_, parent, last = ("", *name.split("."))
    inverse_root = 1 / math.sqrt(math.prod(shape[1:]))
    rules = (
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
    """The arrays of `NAME.npz`, and what `configs.json` beside it says of them."""

    name: str
    arrays: Mapping[str, np.ndarray]
    described: Mapping[str, Mapping]  # all entries of configs.json

    @classmethod
    def load(cls, path: Path) -> "ReferenceFile":
        """Reads a file. Raises OSError or ValueError where it is none, or is not described."""
        described = json.loads((path.parent / "configs.json").read_text())
        if path.stem not in described:
            raise ValueError(f"{path}: not described by {path.parent / 'configs.json'}.")
        with np.load(path) as stored:
            return cls(path.stem, dict(stored), described)

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

        Integers must agree exactly. Nothing is allowed beyond, however a quantity amplifies
        rounding: the reference's own difference is amplified alike.
        """
        expected = self.arrays[name]
        if np.issubdtype(expected.dtype, np.integer):
            return 0.0
        rounding = self.entry["float32_vs_float64"].get(name, {}).get("max_abs", 0.0)
        largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
        return max(10 * rounding, 2e-6 * largest)

    def weights(self, entries: Iterable[Entry]) -> dict[str, np.ndarray]:
        """Official tensors by the recipe, for the entries of a table of names."""
        shapes = {entry.official: entry.official_shape for entry in entries}
        return recipe_weights(shapes, self.prefix)

    def normal(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An input by the recipe: standard normal numbers seeded by its name."""
        return recipe_array(self.prefix + name, shape)

    def generator(self, name: str) -> np.random.Generator:
        """The generator that an input's name seeds."""
        return recipe_generator(self.prefix + name)


def load_golden(name: str) -> ReferenceFile:
    """A reference file that the tests keep."""
    return ReferenceFile.load(GOLDEN / f"{name}.npz")
