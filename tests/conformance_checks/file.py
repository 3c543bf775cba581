"""A reference file: its stored arrays, its configuration, and the comparison with them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.reference import recipe_array, recipe_generator, recipe_weights

# Stored arrays that are cut to save space, and how the whole array is cut alike.
CUTS = {
    "every4": lambda array: array[..., ::4, ::4],
    "every5": lambda array: array[:, ::5],
}


@dataclass(frozen=True)
class Line:
    """The verdict on one stored array; errors are None where nothing was computed."""

    name: str
    verdict: str  # PASS, FAIL or UNCHECKED
    absolute: float | None = None
    relative: float | None = None
    tolerance: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.absolute is None:
            return f"{self.verdict:9} {self.name}: {self.reason}"
        return (
            f"{self.verdict:9} {self.name}: max abs {self.absolute:.2e}, relative "
            f"{self.relative:.2e}, tolerance {self.tolerance:.2e}"
        )


@dataclass(frozen=True)
class ReferenceFile:
    """The arrays of `NAME.npz` and what `configs.json` beside it says of them."""

    name: str
    arrays: Mapping[str, np.ndarray]
    entry: Mapping

    @classmethod
    def load(cls, path: Path) -> "ReferenceFile":
        """Reads a file. Raises ValueError when `configs.json` does not describe it."""
        configs = json.loads((path.parent / "configs.json").read_text())
        if path.stem not in configs:
            raise ValueError(f"{path}: not described by {path.parent / 'configs.json'}.")
        with np.load(path) as stored:
            return cls(path.stem, dict(stored), configs[path.stem])

    @property
    def config(self) -> Mapping:
        """The configuration; components keep theirs with other facts."""
        return self.entry["config"] or self.entry["info"]

    @property
    def prefix(self) -> str:
        """What stands before every hashed name."""
        return self.entry["prefix"]

    def weights(self, entries) -> dict[str, np.ndarray]:
        """Official tensors by the recipe, for the entries of a table of names."""
        shapes = {entry.official: entry.official_shape for entry in entries}
        return recipe_weights(shapes, self.prefix)

    def normal(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An input by the recipe: standard normal numbers seeded by its name."""
        return recipe_array(self.prefix + name, shape)

    def generator(self, name: str) -> np.random.Generator:
        """The generator that an input's name seeds."""
        return recipe_generator(self.prefix + name)

    def compare(self, computed: Mapping[str, np.ndarray]) -> Iterator[Line]:
        """A line for every stored array, in the order of the file."""
        for name, expected in self.arrays.items():
            whole, _, cut = name.partition("__every")
            if whole not in computed:
                yield Line(name, "UNCHECKED", reason="the library has no such quantity")
                continue
            actual = np.asarray(computed[whole])
            yield self._line(name, CUTS["every" + cut](actual) if cut else actual, expected)

    def _line(self, name, actual, expected) -> Line:
        if actual.shape != expected.shape:
            reason = f"got shape {actual.shape}, expected {expected.shape}"
            return Line(name, "FAIL", reason=reason)
        if expected.size == 0:
            return Line(name, "PASS", 0.0, 0.0, 0.0)
        # Infinities (masks, removed logits) must agree in place and sign.
        same = np.isinf(expected) & (actual == expected)
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0, np.abs(actual.astype(np.float64) - expected))
        largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
        exact = np.issubdtype(expected.dtype, np.integer)
        rounding = self.entry["float32_vs_float64"].get(name, {}).get("max_abs", 0.0)
        tolerance = 0.0 if exact else max(10 * rounding, 2e-6 * largest)
        absolute = float(difference.max())
        verdict = "PASS" if absolute <= tolerance else "FAIL"  # a NaN fails
        return Line(name, verdict, absolute, absolute / (largest or 1), tolerance)
