"""Times and memory of compiled programs."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import jax

from mvar_jax.array_types import PyTree

MIB = 2**20
Name = TypeVar("Name")
Measured = TypeVar("Measured")


def compile_timed(
    function: jax.stages.Wrapped, *arguments: object
) -> tuple[jax.stages.Compiled, float]:
    """Compiles a jitted function for these arguments; returns it and the seconds, with tracing."""
    started = time.monotonic()
    compiled = function.lower(*arguments).compile()
    return compiled, time.monotonic() - started


def timed(program: Callable[[], PyTree]) -> float:
    """Seconds until what a program computes is there."""
    started = time.monotonic()
    jax.block_until_ready(program())
    return time.monotonic() - started


def alternate(
    programs: Mapping[Name, Callable[[], Measured]], repeats: int
) -> dict[Name, list[Measured]]:
    """What every program returns, `repeats` times, after one run of each that does not count.

    The programs alternate, so that other work on the machine affects all of them equally.
    """
    for program in programs.values():
        program()
    found: dict[Name, list[Measured]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            found[name].append(program())
    return found


def median_seconds(
    programs: Mapping[Name, Callable[[], PyTree]], repeats: int
) -> dict[Name, float]:
    """Median seconds of every program, which alternate."""
    runs = {name: partial(timed, program) for name, program in programs.items()}
    found = alternate(runs, repeats)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


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
