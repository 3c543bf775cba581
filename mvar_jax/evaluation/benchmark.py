"""What benchmarks share: numbers of no meaning, compile times, programs timed in turn, tables."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import jax

from mvar_jax.array_types import PyTree

MIB = 2**20
Name = TypeVar("Name")


def random_arrays(shapes: PyTree, spread: float) -> PyTree:
    """Normally distributed arrays of these shapes and dtypes; `spread`: standard deviation."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    arrays = (spread * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves))
    return structure.unflatten(a.astype(leaf.dtype) for a, leaf in zip(arrays, leaves))


def compile_timed(
    function: jax.stages.Wrapped, *arguments: object
) -> tuple[jax.stages.Compiled, float]:
    """Compiles a jitted function for these arguments; returns it, and seconds with the tracing."""
    begun = time.monotonic()
    compiled = function.lower(*arguments).compile()
    return compiled, time.monotonic() - begun


def median_seconds(programs: dict[Name, Callable[[], PyTree]], repeats: int) -> dict[Name, float]:
    """Median seconds of every program.

    Repeats go round all of them in turn, so that what else the machine does hits all alike.
    """
    measured = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            begun = time.monotonic()
            jax.block_until_ready(program())
            measured[name].append(time.monotonic() - begun)
    return {name: statistics.median(seconds) for name, seconds in measured.items()}


def markdown_line(cells: Iterable[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_header(names: tuple[str, ...]) -> str:
    """The first two lines of a Markdown table."""
    return f"{markdown_line(names)}\n|{'---|' * len(names)}"
