"""A compiled program and its cost: FLOPs, memory traffic, communication between chips."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
from jax.typing import DTypeLike
from jaxlib._jax import hlo_module_cost_analysis
from jaxlib.xla_client import make_cpu_client

from mvar_jax.compilation.chips import Options
from mvar_jax.compilation.exchange import (
    bytes_beside_arithmetic,
    bytes_between_hosts,
    exchanged_bytes,
)
from mvar_jax.compilation.library_calls import library_cost
from mvar_jax.compilation.program_text import instructions, result_bytes
from mvar_jax.config import ModelConfig
from mvar_jax.evaluation.programs import ProgramMemory, program_memory
from mvar_jax.mesh.axes import BATCH
from mvar_jax.models import Condition, example_condition
from mvar_jax.ops.implementations import platform

FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}


@dataclass(frozen=True)
class Cost:
    """FLOPs, bytes to and from memory, and bytes over the links per collective, of one chip.

    `between_hosts` are bytes over its own network adapter, where hosts are joined by a network.
    `beside_arithmetic` are those of `exchanged` that the program exchanges while it computes.
    """

    flops: int | float
    bytes_moved: int | float
    exchanged: Mapping[str, int | float]
    between_hosts: int | float = 0
    beside_arithmetic: int | float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return self._with(other, 1)

    def __sub__(self, other: "Cost") -> "Cost":
        return self._with(other, -1)

    def __mul__(self, times: int) -> "Cost":
        exchanged = {kind: times * size for kind, size in self.exchanged.items()}
        return Cost(
            times * self.flops,
            times * self.bytes_moved,
            exchanged,
            times * self.between_hosts,
            times * self.beside_arithmetic,
        )

    def _with(self, other, sign):
        kinds = (*self.exchanged, *other.exchanged)
        exchanged = {k: self.exchanged.get(k, 0) + sign * other.exchanged.get(k, 0) for k in kinds}
        return Cost(
            self.flops + sign * other.flops,
            self.bytes_moved + sign * other.bytes_moved,
            exchanged,
            self.between_hosts + sign * other.between_hosts,
            self.beside_arithmetic + sign * other.beside_arithmetic,
        )


class Instruction(NamedTuple):
    """One instruction of a program: its kind, result, bytes of result and operands, and source."""

    kind: str
    result: str
    bytes_moved: int
    source: str


PROGRAMS = 4  # that a check compiles
Advance = Callable[[], None]


def batch_shape(shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """The shape of an argument whose first axis counts images, sharded over the ambient mesh."""
    sharding = jax.sharding.NamedSharding(jax.sharding.get_mesh(), jax.P(BATCH))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def example_conditions(config: ModelConfig, batch_size: int) -> Condition:
    """The shapes of conditions, one per image, sharded over the ambient mesh."""
    shapes = jax.eval_shape(partial(example_condition, config, batch_size))
    return jax.tree.map(lambda leaf: batch_shape(leaf.shape, leaf.dtype), shapes)


class Program:
    """A function compiled for the ambient mesh, whose devices need not exist.

    `arguments` are trees of `jax.ShapeDtypeStruct` with shardings, `options` those of the chip's
    compiler. Costs are the compiler's own estimate for one chip, which counts the body of a loop
    once and of a kernel what it declares. For GPUs it knows no calls into libraries and no kernels:
    cuBLAS's products, cuDNN's convolutions, and what kernels declare, are counted from the
    program's text.
    """

    def __init__(self, function: Callable, *arguments: Any, options: Options | None = None):
        # Jitting a jitted function again would lose its donated arguments.
        jitted = function if hasattr(function, "lower") else jax.jit(function)
        self._compiled = jitted.lower(*arguments).compile(compiler_options=dict(options or {}))
        self._for_gpus = platform() == "gpu"
        mesh = jax.sharding.get_mesh()
        self._hosts = [device.process_index for device in mesh.devices.flat] if mesh.size else []

    @property
    def memory(self) -> ProgramMemory:
        """The memory that it takes on one chip."""
        return program_memory(self._compiled)

    @cached_property
    def cost(self) -> Cost:
        """The cost of one execution."""
        exchanged = exchanged_bytes(self._text)
        if not self._for_gpus:
            found = self._compiled.cost_analysis()
            beside = bytes_beside_arithmetic(self._text)
            return Cost(
                found["flops"], found["bytes accessed"], exchanged, beside_arithmetic=beside
            )
        # The plugin for GPUs has no analysis of its own, and XLA's knows no library.
        (module,) = self._compiled.runtime_executable().hlo_modules()
        found = hlo_module_cost_analysis(make_cpu_client(), module)
        flops, moved = library_cost(self._text)
        return Cost(
            found["flops"] + flops,
            found["bytes accessed"] + moved,
            exchanged,
            bytes_between_hosts(self._text, self._hosts),
        )

    @cached_property
    def _text(self) -> str:
        return self._compiled.as_text()

    def heaviest(self, count: int = 10) -> list[Instruction]:
        """The instructions outside of loops that move the most bytes."""
        found = instructions(self._text[self._text.index("\nENTRY") :])
        sizes = {row.name: result_bytes(row) for row in found}
        rows = []
        for row in found:
            if row.kind in FREE or row.kind.endswith("-done"):
                continue
            source = re.search(r'op_name="([^"]*)"', row.rest)
            moved = sizes[row.name] + sum(sizes.get(operand, 0) for operand in row.operands)
            shape = re.sub(r"\{[^}]*\}", "", row.result)
            rows.append(Instruction(row.kind, shape, moved, source[1] if source else row.name))
        return sorted(rows, key=lambda row: -row.bytes_moved)[:count]


def split_cost(one: Program, two: Program) -> tuple[Cost, Cost]:
    """The cost of a repetition of the pattern, and of the rest, from programs with one and two."""
    repetition = two.cost - one.cost
    return repetition, one.cost - repetition
