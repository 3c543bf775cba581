"""Checks of input, with errors of one sentence: what was got, what was expected, what to do."""

from numbers import Integral
from typing import Any, TypeVar

Value = TypeVar("Value")

LARGEST = 2**31 - 1  # of an int32, as steps and sizes of arrays are


def check(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_given(value: Value | None, message: str) -> Value:
    """The value. Raises ValueError(message) when it is None."""
    if value is None:
        raise ValueError(message)
    return value


def install_command(extra: str) -> str:
    """How to install what an extra of setup.py adds. The package is on no index: from its clone."""
    return f"pip install -e '.[{extra}]' in the clone of mvar_jax"


def check_range(name: str, value: int | float, low: int | float, high: int | float) -> None:
    """Raises ValueError unless low <= value <= high."""
    check(low <= value <= high, f"{name}: got {value}, expected a number from {low} to {high}.")


def check_integer(name: str, value: Any, low: int, high: int) -> None:
    """Raises ValueError unless the value is a whole number, no truth value, from low to high."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    check(
        whole and low <= int(value) <= high,
        f"{name}: got {value!r}, expected a whole number from {low} to {high}.",
    )


def check_seed(seed: int) -> None:
    """Raises ValueError unless the seed, a whole number, fits the random number generators."""
    check_integer("seed", seed, 0, 2**32 - 1)


def describe_os_error(error: OSError) -> str:
    """One sentence for a file or folder that cannot be read or written."""
    path = f"{error.filename}: " if error.filename else ""
    if isinstance(error, FileNotFoundError):
        return f"{path}{error.strerror or error}; name one that is there, or make it."
    return (
        f"{path}{error.strerror or error}; expected a path that can be read and written, name "
        "another one or fix it."
    )


def is_out_of_device_memory(error: Exception) -> bool:
    """Whether an error is XLA's that a device, which may be the CPU, has no memory left."""
    return isinstance(error, RuntimeError) and str(error).startswith("RESOURCE_EXHAUSTED")


def first_line(error: Exception) -> str:
    """The message of an error, as part of a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__
