"""Reference arrays of the original implementations, and the weights they were computed with.

`tests/golden/NAME.npz` holds the arrays, `tests/golden/NAME.json` their configuration: the prefix
of hashed names, the official parameter order where gradients are stored, and for every array how
far float32 and float64 runs of the original differ. Weights are not stored: a parameter's values
follow from its official name and shape (PyTorch layout) through `recipe_weights`.
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
class Golden:
    """The arrays of one reference file by name, with what is known about them."""

    arrays: Mapping[str, np.ndarray]
    config: Mapping
    prefix: str
    param_names: tuple[str, ...]
    differences: Mapping[str, float]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def scales(self, stem: str) -> list[np.ndarray]:
        """The arrays `{stem}0`, `{stem}1`, ... in order."""
        count = sum(name.startswith(stem) and name[len(stem) :].isdigit() for name in self.arrays)
        return [self.arrays[f"{stem}{k}"] for k in range(count)]

    def tolerance(self, name: str) -> float:
        """Largest allowed difference: ten times the reference's rounding, or 2e-6 of its size."""
        return max(10 * self.differences[name], 2e-6 * float(np.abs(self.arrays[name]).max()))

    def check(self, name: str, actual) -> None:
        """Asserts that an array is the stored one: integers exactly, others within tolerance."""
        expected, actual = self.arrays[name], np.asarray(actual)
        assert actual.shape == expected.shape, f"{name}: {actual.shape} != {expected.shape}"
        if np.issubdtype(expected.dtype, np.integer):
            np.testing.assert_array_equal(actual, expected, err_msg=name)
            return
        tolerance = self.tolerance(name)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=name)


def load_golden(name: str) -> Golden:
    """The reference file of a name."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        arrays = dict(stored)
    about = json.loads((GOLDEN / f"{name}.json").read_text())
    return Golden(
        arrays, about["config"], about["prefix"], tuple(about["param_names"]), about["differences"]
    )
