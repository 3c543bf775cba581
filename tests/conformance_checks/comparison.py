"""The comparison of what was computed with what a reference file stores."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from re import Pattern

import numpy as np

from tests.reference import ReferenceFile


@dataclass(frozen=True)
class Coarse:
    """What was computed with steps of bfloat16, and the original's values without them.

    A last digit of float32 decides about a whole step here and there, so that the largest
    difference is a matter of chance. The root mean square is not: it may be a tenth of what the
    steps make of the original's values, where a step left out makes six tenths or more.
    """

    array: np.ndarray
    without: np.ndarray


@dataclass(frozen=True)
class Line:
    """The verdict on one stored array; errors are None where nothing could be compared."""

    name: str
    verdict: str  # PASS, FAIL, UNCHECKED, or GIVEN for an input of the computation
    absolute: float | None = None
    relative: float | None = None  # to the array's largest magnitude
    tolerance: float | None = None  # of the absolute error
    measure: str = "max abs"
    reason: str = ""

    def __str__(self) -> str:
        if self.absolute is None:
            return f"{self.verdict:9} {self.name}: {self.reason}"
        return (
            f"{self.verdict:9} {self.name}: {self.measure} {self.absolute:.2e}, relative "
            f"{self.relative:.2e}, tolerance {self.tolerance:.2e}"
        )


def compare(
    file: ReferenceFile, computed: Mapping[str, np.ndarray], given: Pattern | None = None
) -> Iterator[Line]:
    """A line for every stored array, in the order of the file; `given` matches inputs' names."""
    for name in file.arrays:
        if given is not None and given.fullmatch(name):
            yield Line(name, "GIVEN", reason="an input, taken from the file")
            continue
        whole, _, stride = name.partition("__every")
        if whole not in computed:
            yield Line(name, "UNCHECKED", reason="the library has no such quantity")
            continue
        if isinstance(computed[whole], Coarse):
            yield _compare_coarse(file, name, computed[whole])
            continue
        actual = np.asarray(computed[whole])
        yield _compare(file, name, cut(actual, int(stride)) if stride else actual)


def cut(array: np.ndarray, stride: int) -> np.ndarray:
    """Every so many pixels of maps, every so many positions of sequences."""
    return array[..., ::stride, ::stride] if array.ndim == 4 else array[:, ::stride]


def _compare_coarse(file, name, computed: Coarse) -> Line:
    expected = np.float64(file[name])
    if computed.array.shape != expected.shape:
        reason = f"got shape {computed.array.shape}, expected {expected.shape}"
        return Line(name, "FAIL", reason=reason)
    error, effect = (
        float(np.sqrt(np.square(np.asarray(values) - expected).mean()))
        for values in (computed.array, computed.without)
    )
    verdict = "PASS" if error <= effect / 10 else "FAIL"  # a NaN fails
    return Line(name, verdict, error, error / (effect or 1), effect / 10, "root mean square")


def _compare(file, name, actual) -> Line:
    expected, tolerance = file[name], file.tolerance(name)
    if actual.shape != expected.shape:
        reason = f"got shape {actual.shape}, expected {expected.shape}"
        return Line(name, "FAIL", reason=reason)
    # Infinities (masks, removed logits) must agree in place and sign.
    same = np.isinf(expected) & (actual == expected)
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0, np.abs(np.float64(actual) - np.float64(expected)))
    absolute = float(difference.max(initial=0))
    largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
    verdict = "PASS" if absolute <= tolerance else "FAIL"  # a NaN fails
    return Line(name, verdict, absolute, absolute / (largest or 1), tolerance)
