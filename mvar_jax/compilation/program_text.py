"""The text of a compiled program: its instructions, and the arrays that types in it name."""

import math
import re
from typing import NamedTuple

WIDTHS = {"pred": 1, "bf16": 2, "f16": 2} | {f"{k}{8 * n}": n for k in "suf" for n in (1, 2, 4, 8)}
TYPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*)$")


class ArrayType(NamedTuple):
    """The type of an array."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """What it takes in memory, without padding."""
        return WIDTHS[self.dtype] * math.prod(self.shape)


class Line(NamedTuple):
    """An instruction as written in the program's text."""

    name: str
    result: str
    kind: str
    rest: str

    @property
    def operands(self) -> list[str]:
        """The names of its operands."""
        return re.findall(r"%([\w.-]+)", self.rest.partition("), ")[0])


def instructions(text: str) -> list[Line]:
    """Every instruction in every computation of a program."""
    return [Line(*match.groups()) for match in map(INSTRUCTION.match, text.splitlines()) if match]


def array_types(text: str) -> list[ArrayType]:
    """Every type of an array in a text, but for tokens and the like."""
    return [
        ArrayType(dtype, tuple(map(int, filter(None, shape.split(",")))))
        for dtype, shape in TYPE.findall(text)
        if dtype in WIDTHS
    ]


def result_bytes(line: Line) -> int:
    """Bytes of all arrays that an instruction returns."""
    return sum(array.bytes for array in array_types(line.result))
