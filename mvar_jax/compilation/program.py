"""A compiled program and its cost: FLOPs, memory traffic, communication between chips."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.typing import DTypeLike

from mvar_jax.config import ModelConfig
from mvar_jax.evaluation.programs import ProgramMemory, program_memory
from mvar_jax.mesh.axes import BATCH
from mvar_jax.models import Condition, example_condition

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
WIDTHS = {"pred": 1, "bf16": 2, "f16": 2} | {f"{k}{8 * n}": n for k in "suf" for n in (1, 2, 4, 8)}
TYPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*)$")
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}


@dataclass(frozen=True)
class Cost:
    """FLOPs, bytes to and from memory, and bytes over the links per collective, of one chip."""

    flops: int | float
    bytes_moved: int | float
    exchanged: Mapping[str, int | float]

    def __add__(self, other: "Cost") -> "Cost":
        return self._with(other, 1)

    def __sub__(self, other: "Cost") -> "Cost":
        return self._with(other, -1)

    def __mul__(self, times: int) -> "Cost":
        exchanged = {kind: times * size for kind, size in self.exchanged.items()}
        return Cost(times * self.flops, times * self.bytes_moved, exchanged)

    def _with(self, other, sign):
        kinds = (*self.exchanged, *other.exchanged)
        exchanged = {k: self.exchanged.get(k, 0) + sign * other.exchanged.get(k, 0) for k in kinds}
        moved = self.bytes_moved + sign * other.bytes_moved
        return Cost(self.flops + sign * other.flops, moved, exchanged)


class Instruction(NamedTuple):
    """One instruction of a program: its kind, result, bytes of result and operands, and source."""

    kind: str
    result: str
    bytes_moved: int
    source: str


PROGRAMS = 4  # that a check compiles
Advance = Callable[[], None]

# Keeps the compiler from splitting matmuls into loops that gather their operands meanwhile.
WHOLE_PRODUCTS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}


def by_image(shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """The shape of an argument whose first axis counts images, sharded over the ambient mesh."""
    sharding = jax.sharding.NamedSharding(jax.sharding.get_mesh(), jax.P(BATCH))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def example_conditions(config: ModelConfig, batch_size: int) -> Condition:
    """The shapes of conditions, one per image, sharded over the ambient mesh."""
    shapes = jax.eval_shape(partial(example_condition, config, batch_size))
    return jax.tree.map(lambda leaf: by_image(leaf.shape, leaf.dtype), shapes)


class Program:
    """A function compiled for the ambient mesh, whose devices need not exist.

    `arguments` are trees of `jax.ShapeDtypeStruct` with shardings. Costs are the compiler's own
    estimate for one chip, which counts the body of a loop once and of a kernel what it declares.
    Programs whose cost is needed are compiled with `options` that keep the compiler from creating
    loops.
    """

    def __init__(self, function: Callable, *arguments: Any, options: dict[str, str] | None = None):
        # Jitting a jitted function again would lose its donated arguments.
        jitted = function if hasattr(function, "lower") else jax.jit(function)
        self._compiled = jitted.lower(*arguments).compile(compiler_options=options)

    @property
    def memory(self) -> ProgramMemory:
        """The memory that it takes on one chip."""
        return program_memory(self._compiled)

    @property
    def cost(self) -> Cost:
        """The cost of one execution."""
        found = self._compiled.cost_analysis()
        return Cost(found["flops"], found["bytes accessed"], self.exchanged)

    @property
    def exchanged(self) -> dict[str, int]:
        """Bytes that a chip sends or receives, by kind of collective; 2x for all-reduce."""
        return exchanged_bytes(self._compiled.as_text())

    def heaviest(self, count: int = 10) -> list[Instruction]:
        """The instructions outside of loops that move the most bytes."""
        text = self._compiled.as_text()
        found = _instructions(text[text.index("\nENTRY") :])
        sizes = {row.name: sum(_sizes(row.result)) for row in found}
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


def exchanged_bytes(text: str) -> dict[str, int]:
    """Bytes per kind of collective, from the text of a compiled program.

    The compiler may split one collective into several instructions of the same channel, to overlap
    it with arithmetic; it counts once. Its bytes are the larger of input and output, and twice that
    for an all-reduce.
    """
    found = _instructions(text)
    sizes = {row.name: sum(_sizes(row.result)) for row in found}
    moved: dict[str, dict[str, int]] = {}
    for row in found:
        kind = row.kind.removesuffix("-start")
        if kind not in COLLECTIVES:
            continue
        operands = sum(sizes.get(name, 0) for name in row.operands)
        results = sizes[row.name] - (operands if row.kind.endswith("-start") else 0)
        size = max(operands, results) * (2 if kind == "all-reduce" else 1)
        channel = re.search(r"channel_id=(\d+)", row.rest)
        name = channel[1] if channel else row.name
        own = moved.setdefault(kind, {})
        own[name] = max(own.get(name, 0), size)
    return {kind: sum(channels.values()) for kind, channels in moved.items()}


class _Line(NamedTuple):
    """An instruction as written in the program's text."""

    name: str
    result: str
    kind: str
    rest: str

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.-]+)", self.rest.partition("), ")[0])


def _instructions(text: str) -> list[_Line]:
    """Every instruction in every computation of a program."""
    return [_Line(*match.groups()) for match in map(INSTRUCTION.match, text.splitlines()) if match]


def _sizes(text: str) -> list[int]:
    """Bytes of every array type in a text."""
    sizes = []
    for width, dims in TYPE.findall(text):
        if width in WIDTHS:
            count = WIDTHS[width]
            for dim in filter(None, dims.split(",")):
                count *= int(dim)
            sizes.append(count)
    return sizes or [0]
