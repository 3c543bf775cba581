"""What benchmarks share: random arrays, times and memory of compiled programs, tables."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax

from mvar_jax.array_types import PyTree

MIB = 2**20
Name = TypeVar("Name")


def random_arrays(shapes: PyTree, spread: float) -> PyTree:
    """Normally distributed arrays of these shapes and dtypes; `spread`: standard deviation."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    arrays = (spread * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves))
    typed = (array.astype(leaf.dtype) for array, leaf in zip(arrays, leaves))
    return jax.tree.unflatten(structure, typed)


def compile_timed(
    function: jax.stages.Wrapped, *arguments: object
) -> tuple[jax.stages.Compiled, float]:
    """Compiles a jitted function for these arguments; returns it, and seconds with the tracing."""
    begun = time.monotonic()
    compiled = function.lower(*arguments).compile()
    return compiled, time.monotonic() - begun


def median_seconds(
    programs: Mapping[Name, Callable[[], PyTree]], repeats: int
) -> dict[Name, float]:
    """Median seconds of every program.

    Repeats go round all of them in turn, so that what else the machine does hits all alike.
    """
    measured: dict[Name, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            begun = time.monotonic()
            jax.block_until_ready(program())
            measured[name].append(time.monotonic() - begun)
    return {name: statistics.median(seconds) for name, seconds in measured.items()}


class ProgramMemory(NamedTuple):
    """Bytes that a compiled program takes on one device."""

    arguments: int
    results: int  # beyond those that reuse the memory of donated arguments
    temporaries: int
    code: int

    @property
    def peak(self) -> int:
        """Bytes of all its arrays together."""
        return self.arguments + self.results + self.temporaries


def program_memory(compiled: jax.stages.Compiled) -> ProgramMemory:
    """The memory of a compiled program, as the compiler plans it."""
    found = compiled.memory_analysis()
    assert found is not None  # the compilers of CPUs, GPUs and TPUs all tell it
    return ProgramMemory(
        arguments=found.argument_size_in_bytes,
        results=found.output_size_in_bytes - found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        code=found.generated_code_size_in_bytes,
    )


def markdown_line(cells: Iterable[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_header(names: Sequence[str]) -> str:
    """The first two lines of a Markdown table."""
    return f"{markdown_line(names)}\n|{'---|' * len(names)}"


def markdown_table(names: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A whole Markdown table, without a newline at its end."""
    return "\n".join([markdown_header(names), *map(markdown_line, rows)])
