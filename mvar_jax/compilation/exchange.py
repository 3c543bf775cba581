"""What the chips of a compiled program exchange, from its text."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mvar_jax.checks import check_given
from mvar_jax.compilation.program_text import instructions, result_bytes

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# Of these a host receives the same for all of its chips, which can share the work.
SHARED = ("all-gather", "all-reduce", "reduce-scatter")

# The compiler for TPUs runs an all-reduce of which each chip keeps a piece as a reduce-scatter: one
# fusion, in whose text both are written out.
SCATTERED = re.compile(r"^%all-reduce-scatter[^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
# What it runs step by step inside of fusions with arithmetic, each step a fusion of the channel.
BESIDE_ARITHMETIC = re.compile(
    r"^%async_collective_fusion[^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL
)
CHANNEL = re.compile(r"channel_id=(\d+)")
LISTED = re.compile(r"\b(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]+\})\}")
ORDERED = re.compile(r"\breplica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
MESH = re.compile(
    r"\breplica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
    r" \{([^}]*)\}"
)
AXIS = re.compile(r"'(\w+)'(?:=(\d+))?(?::\((\d+)\)(\d+))?")


class _Collective(NamedTuple):
    kind: str
    bytes: int
    rest: str

    @property
    def channel(self) -> str | None:
        """The number that all instructions of one collective share."""
        found = CHANNEL.search(self.rest)
        return found[1] if found else None


def exchanged_bytes(text: str) -> dict[str, int]:
    """Bytes per kind of collective, from the text of a compiled program.

    The compiler may split one collective into several instructions of the same channel, to overlap
    it with arithmetic; it counts once. Its bytes are the larger of input and output, and twice that
    for an all-reduce. The fusion of an all-reduce with the slice of it that a chip keeps is a
    reduce-scatter.
    """
    moved: Counter[str] = Counter()
    for found in _collectives(text):
        moved[found.kind] += found.bytes
    return dict(moved)


def bytes_beside_arithmetic(text: str) -> int:
    """Bytes of the collectives that the compiler for TPUs overlaps with arithmetic.

    They are counted as `exchanged_bytes` counts them, of which they are a part.
    """
    beside = {channel for body in BESIDE_ARITHMETIC.findall(text) for channel in _channels(body)}
    return sum(found.bytes for found in _collectives(text) if found.channel in beside)


def bytes_between_hosts(text: str, hosts: Sequence[int]) -> float:
    """Bytes that one chip's network adapter carries, from the text of a compiled program.

    `hosts` has the host of every chip of the program's mesh, in its order. The chips of a host that
    gather or reduce together share what other hosts send. Raises ValueError for groups of chips
    that are written in an unknown way.
    """
    total = 0.0
    for kind, size, rest in _collectives(text):
        groups = replica_groups(rest, len(hosts))
        members = [Counter(hosts[chip] for chip in group) for group in groups]
        shares = [min(own.values()) if kind in SHARED else 1 for own in members if len(own) > 1]
        total += size / min(shares) if shares else 0
    return total


def replica_groups(rest: str, chips: int) -> np.ndarray:
    """The chips that exchange with each other, as int [groups, n], from a collective's attributes.

    Raises ValueError for groups that are written in an unknown way.
    """
    if found := LISTED.search(rest):
        return np.array([_integers(group) for group in re.findall(r"\{([\d,]+)\}", found[1])])
    if found := ORDERED.search(rest):
        return _ordered(found[2], found[3]).reshape(_integers(found[1]))
    if found := MESH.search(rest):
        sizes, shape, order, axes = found.groups()
        return _along_axes(_ordered(shape or str(chips), order), sizes, axes)
    empty = re.search(r"\breplica_groups=\{\}", rest)
    check_given(empty, f"a collective: got {rest[:200]!r}, expected the groups of its chips.")
    return np.arange(chips)[None]


def _ordered(shape: str, order: str | None) -> np.ndarray:
    """The numbers of all chips, in an array of this shape with transposed axes, flat."""
    sizes = _integers(shape)
    numbers = np.arange(np.prod(sizes)).reshape(sizes)
    return numbers.transpose(_integers(order) if order else None).reshape(-1)


def _along_axes(chips: np.ndarray, sizes: str, axes: str) -> np.ndarray:
    """The groups along some axes of a mesh; of an axis perhaps only a factor of its size.

    'a':(2)4 is the factor 4 of axis a after a first factor of 2.
    """
    whole = {name: int(size) for name, size, _, _ in AXIS.findall(sizes)}
    factors = {name: (1, size) for name, size in whole.items()}
    taken = []
    for name, _, before, size in AXIS.findall(axes):
        taken.append(name)
        if size:
            factors[name] = (int(before), int(size))
    shape: list[int] = []
    grouped: list[int] = []
    for name, size in whole.items():
        before, own = factors[name]
        if name in taken:
            grouped.append(len(shape) + 1)
        shape += [before, own, size // (before * own)]
    array = chips.reshape(shape)
    array = np.moveaxis(array, grouped, range(-len(grouped), 0))
    return array.reshape(-1, np.prod([shape[axis] for axis in grouped]))


def _integers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _channels(text: str) -> list[str]:
    """The channels of the collectives in a part of a program."""
    return [found[1] for row in instructions(text) if (found := CHANNEL.search(row.rest))]


def _collectives(text: str) -> list[_Collective]:
    """The collectives of a program, each channel once."""
    found = instructions(text)
    sizes = {row.name: result_bytes(row) for row in found}
    scattered = {row.name for body in SCATTERED.findall(text) for row in instructions(body)}
    channels: dict[tuple[str, str], _Collective] = {}
    for row in found:
        kind = row.kind.removesuffix("-start")
        if kind not in COLLECTIVES:
            continue
        if row.name in scattered:
            kind = "reduce-scatter"
        operands = sum(sizes.get(name, 0) for name in row.operands)
        results = sizes[row.name] - (operands if row.kind.endswith("-start") else 0)
        size = max(operands, results) * (2 if kind == "all-reduce" else 1)
        new = _Collective(kind, size, row.rest)
        key = kind, new.channel or row.name
        if key not in channels or size > channels[key].bytes:
            channels[key] = new
    return list(channels.values())
