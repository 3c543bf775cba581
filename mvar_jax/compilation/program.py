"""A compiled program, and what it costs: arithmetic, memory traffic, exchange between chips."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
WIDTHS = {"pred": 1, "bf16": 2, "f16": 2} | {f"{k}{8 * n}": n for k in "suf" for n in (1, 2, 4, 8)}
TYPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*)$")
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}


@dataclass(frozen=True)
class Cost:
    """Of one chip: FLOPs, bytes to and from memory, bytes over the links by collective."""

    flops: int | float
    bytes_moved: int | float
    exchanged: dict[str, int | float]

    def __add__(self, other: "Cost") -> "Cost":
        return self._with(other, 1)

    def __sub__(self, other: "Cost") -> "Cost":
        return self._with(other, -1)

    def __mul__(self, times: int) -> "Cost":
        exchanged = {kind: times * size for kind, size in self.exchanged.items()}
        return Cost(times * self.flops, times * self.bytes_moved, exchanged)

    def _with(self, other, sign):
        kinds = self.exchanged | other.exchanged
        exchanged = {k: self.exchanged.get(k, 0) + sign * other.exchanged.get(k, 0) for k in kinds}
        moved = self.bytes_moved + sign * other.bytes_moved
        return Cost(self.flops + sign * other.flops, moved, exchanged)


class Memory(NamedTuple):
    """Bytes of one chip that a program takes."""

    arguments: int
    results: int  # beyond those that take over the memory of arguments
    temporaries: int
    code: int


class Instruction(NamedTuple):
    """One instruction of a program: its result, operands, bytes of both, and where it is from."""

    kind: str
    result: str
    bytes_moved: int
    source: str


# Products are not split into loops that gather their operands piece by piece meanwhile.
WHOLE_PRODUCTS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}


class Program:
    """A function compiled for the ambient mesh, whose devices need not exist.

    `arguments` are trees of `jax.ShapeDtypeStruct` with shardings. Costs are the compiler's own
    estimate for one chip; what a loop repeats counts once, and a kernel what it declares. To be
    costed, a program is compiled with `options` that keep the compiler from making loops.
    """

    def __init__(self, function: Callable, *arguments: Any, options: dict[str, str] | None = None):
        self._compiled = jax.jit(function).lower(*arguments).compile(compiler_options=options)

    @property
    def loops(self) -> int:
        """How many loops it has, whose bodies count once in its cost."""
        return sum(kind == "while" for kind, _, _ in _instructions(self._compiled.as_text()))

    @property
    def memory(self) -> Memory:
        """What it takes while it runs."""
        found = self._compiled.memory_analysis()
        return Memory(
            found.argument_size_in_bytes,
            found.output_size_in_bytes - found.alias_size_in_bytes,
            found.temp_size_in_bytes,
            found.generated_code_size_in_bytes,
        )

    @property
    def cost(self) -> Cost:
        """What one run costs."""
        found = self._compiled.cost_analysis()
        return Cost(found["flops"], found["bytes accessed"], self.exchanged)

    @property
    def exchanged(self) -> dict[str, float]:
        """Bytes that a chip sends or receives, by kind of collective; 2x for all-reduce."""
        sizes: dict[str, float] = {}
        for kind, result, operands in _instructions(self._compiled.as_text()):
            name = kind.removesuffix("-start")
            if name in COLLECTIVES:
                moved = max(*_sizes(result), *_sizes(operands), 0)
                sizes[name] = sizes.get(name, 0) + moved * (2 if name == "all-reduce" else 1)
        return sizes

    def heaviest(self, count: int) -> list[Instruction]:
        """The instructions, outside of loops, that move the most bytes."""
        text = self._compiled.as_text()
        lines = text[text.index("\nENTRY") :].splitlines()
        found = [match.groups() for match in map(INSTRUCTION.match, lines) if match]
        sizes = {name: sum(_sizes(result)) for name, result, _, _ in found}
        rows = []
        for name, result, kind, rest in found:
            if kind in FREE or kind.endswith("-done"):
                continue
            names = re.findall(r"%([\w.-]+)", rest.partition("), ")[0])
            source = re.search(r'op_name="([^"]*)"', rest)
            moved = sizes[name] + sum(sizes.get(operand, 0) for operand in names)
            shape = re.sub(r"\{[^}]*\}", "", result)
            rows.append(Instruction(kind, shape, moved, source[1] if source else name))
        return sorted(rows, key=lambda row: -row.bytes_moved)[:count]


def _instructions(text: str) -> list[tuple[str, str, str]]:
    """Kind, result and operands, as text, of every instruction in every computation."""
    found = filter(None, map(INSTRUCTION.match, text.splitlines()))
    return [(match[3], match[2], match[4].partition("), ")[0]) for match in found]


def _sizes(text: str) -> list[int]:
    """Bytes of every array type that is written in a text."""
    sizes = []
    for width, dims in TYPE.findall(text):
        if width in WIDTHS:
            count = WIDTHS[width]
            for dim in filter(None, dims.split(",")):
                count *= int(dim)
            sizes.append(count)
    return sizes or [0]
