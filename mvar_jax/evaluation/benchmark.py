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
    """Normal arrays of these shapes and dtypes, with standard deviation `spread`."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    arrays = (spread * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves))
    typed = (array.astype(leaf.dtype) for array, leaf in zip(arrays, leaves))
    return jax.tree.unflatten(structure, typed)


def compile_timed(
    function: jax.stages.Wrapped, *arguments: object
) -> tuple[jax.stages.Compiled, float]:
    """Compiles a jitted function for these arguments; returns it and the seconds, with tracing."""
    started = time.monotonic()
    compiled = function.lower(*arguments).compile()
    return compiled, time.monotonic() - started


def median_seconds(
    programs: Mapping[Name, Callable[[], PyTree]], repeats: int
) -> dict[Name, float]:
    """Median seconds of every program.

    The programs alternate, so that other work on the machine affects all of them equally.
    """
    measured: dict[Name, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            started = time.monotonic()
            jax.block_until_ready(program())
            measured[name].append(time.monotonic() - started)
    return {name: statistics.median(seconds) for name, seconds in measured.items()}


class ProgramMemory(NamedTuple):
    """Bytes that a compiled program takes on one device."""

    arguments: int
    results: int  # without those that reuse the memory of donated arguments
    temporaries: int
    code: int

    @property
    def peak(self) -> int:
        """Bytes of all its arrays together."""
        return self.arguments + self.results + self.temporaries


def program_memory(compiled: jax.stages.Compiled) -> ProgramMemory:
    """The memory of a compiled program, by the compiler's plan."""
    found = compiled.memory_analysis()
    assert found is not None  # the compilers for CPUs, GPUs and TPUs all report it
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
