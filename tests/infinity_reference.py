"""Reference arrays of the official Infinity, and the weights they were computed with.

A file `NAME.npz` describes itself: its entry `config` is JSON. How far float32 and float64 runs of
the original differ is in a table, `differences.json`, beside the file or else beside the kept ones.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvar_jax.convert.names import Entry
from tests.reference import GOLDEN, recipe_array, recipe_generator

KEPT = GOLDEN / "infinity"
TABLE = "differences.json"


@dataclass(frozen=True)
class InfinityFile:
    """The arrays of a file, its own description, and the table of differences."""

    name: str
    arrays: Mapping[str, np.ndarray]
    config: Mapping
    differences: Mapping[str, Mapping[str, float]]  # by file, then by array

    @classmethod
    def load(cls, path: Path) -> "InfinityFile":
        """Reads a file. Raises OSError or ValueError where it is none."""
        with np.load(path) as stored:
            arrays = dict(stored)
        config = json.loads(str(arrays.pop("config", "{}")))
        table = path.parent / TABLE
        table = table if table.is_file() else KEPT / TABLE
        return cls(path.stem, arrays, config, json.loads(table.read_text()))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def tolerance(self, name: str) -> float:
        """Largest allowed difference: ten times the reference's rounding, or 2e-6 of its size.

        Integers may differ as much as the reference's do, by default not at all. A file that the
        table does not have is allowed the most that the table has for arrays of that name.
        """
        expected = self.arrays[name]
        rounding = self._rounding(name)
        if not np.issubdtype(expected.dtype, np.inexact):
            return rounding
        largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
        return max(10 * rounding, 2e-6 * largest)

    def _rounding(self, name: str) -> float:
        if self.name in self.differences:
            return self.differences[self.name].get(name, 0.0)
        return max((of.get(name, 0.0) for of in self.differences.values()), default=0.0)

    def tokenizer_weights(self, entries: Iterable[Entry]) -> dict[str, np.ndarray]:
        """Official tensors of a tokenizer by the recipe, for the entries of a table of names."""
        return {
            entry.official: self._weight(entry.official, entry.official_shape) for entry in entries
        }

    def _weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        inverse_root = 1 / math.sqrt(math.prod(shape[1:]))
        rules = (
            (name.endswith("norm.weight"), 0.1, 1.0),
            (len(shape) == 1, 0.1, 0.0),
            (name == "decoder.conv_out.conv.weight", 0.7 * inverse_root, 0.0),
            (True, 1.2 * inverse_root, 0.0),
        )
        std, mean = next((std, mean) for fits, std, mean in rules if fits)
        return recipe_array(self.prefix + name, shape, std, mean)

    def trunk_weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An official tensor of a trunk by the recipe."""
        inverse_root = 1 / math.sqrt(math.prod(shape[1:]))
        rules = (
            (name.endswith("scale_mul_1H11"), 1.0, 2.0),
            (name.endswith("ada_gss"), 0.5, 0.3),
            (name.endswith(("text_norm.weight", "ca_norm.weight")), 0.1, 1.0),
            (name in ("cfg_uncond", "pos_start", "lvl_embed.weight"), 0.5, 0.0),
            (name.endswith("mat_q") or name == "word_embed.weight", 1.0, 0.0),
            (name == "head.weight", 3 * inverse_root, 0.0),
            (name.endswith("ada_lin.1.weight"), 0.5 * inverse_root, 0.0),
            (len(shape) == 1, 0.1, 0.0),
            (True, inverse_root, 0.0),
        )
        std, mean = next((std, mean) for fits, std, mean in rules if fits)
        return recipe_array(self.prefix + name, shape, std, mean)

    def normal(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An input by the recipe: standard normal numbers seeded by its name."""
        return recipe_array(self.prefix + name, shape)

    @property
    def prefix(self) -> str:
        """What stands before every hashed name."""
        return str(self.config.get("prefix", self.arrays.get("prefix", "")))

    def uniform(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An input by the recipe: float32 numbers in [0, 1) seeded by its name."""
        return recipe_generator(self.prefix + name).random(shape, dtype=np.float32)

    def match(self, pattern: str) -> list[re.Match]:
        """The names of arrays that a whole pattern matches."""
        return list(filter(None, (re.fullmatch(pattern, name) for name in self.arrays)))
