"""The cost of a program on a topology: memory, roofline time, utilisation."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mvar_jax.compilation.chips import Chip
from mvar_jax.compilation.program import Cost, Instruction
from mvar_jax.evaluation.markdown import markdown_table
from mvar_jax.evaluation.programs import ProgramMemory

NAMED = 8  # of the largest arrays
REMEDY = "Use more chips, a smaller batch_size, accumulate or fsdp."
PARTS_HEADER = ("part", "times", "TFLOP", "GB moved", "GB exchanged", "ms", "ms exchange")


@dataclass(frozen=True)
class Part:
    """A part of a program that runs `times` times; `cost` is of one of them."""

    name: str
    cost: Cost
    times: int = 1

    def seconds(self, chip: Chip) -> float:
        """The larger of the times of arithmetic and of memory traffic, for all repetitions."""
        arithmetic = self.cost.flops / chip.peak_flops
        return self.times * max(arithmetic, self.cost.bytes_moved / chip.memory_bandwidth)

    def exchange_seconds(self, chip: Chip) -> float:
        """The time of its collectives, for all repetitions.

        They use all links of a chip; where hosts are joined by a network, it may take longer.
        """
        seconds = sum(self.cost.exchanged.values()) / chip.link_bandwidth
        if chip.network_bandwidth is not None:
            seconds = max(seconds, self.cost.between_hosts / chip.network_bandwidth)
        return self.times * seconds

    def hidden_seconds(self, chip: Chip) -> float:
        """The most exchange that may pass beside arithmetic, for all repetitions.

        A part that is the difference of two programs may have less of it than none.
        """
        beside = self.times * self.cost.beside_arithmetic / chip.link_bandwidth
        return max(0.0, min(beside, self.exchange_seconds(chip), self.seconds(chip)))


def total_cost(parts: Iterable[Part]) -> Cost:
    """The cost of all parts together, with their repetitions."""
    total = Cost(0, 0, {})
    for part in parts:
        total += part.cost * part.times
    return total


@dataclass(frozen=True)
class Report:
    """The result of a check. Sizes are per chip."""

    topology: str
    chips: int
    chip: Chip
    memory: ProgramMemory
    parts: list[Part]
    model_flops: float | None  # of the model's matmuls, all chips together; None if not counted
    compile_seconds: float
    heaviest: list[Instruction] = field(default_factory=list)

    @property
    def bytes_per_chip(self) -> int:
        """Memory that the program takes."""
        return sum(self.memory)

    @property
    def share(self) -> float:
        """Bytes that the program takes / the chip's memory; above 1 it does not fit."""
        return self.bytes_per_chip / self.chip.memory_bytes

    @property
    def total(self) -> Cost:
        """The cost of all parts together."""
        return total_cost(self.parts)

    @property
    def seconds(self) -> float:
        """Roofline time of all parts, one after another, with collectives not overlapped."""
        return sum(p.seconds(self.chip) + p.exchange_seconds(self.chip) for p in self.parts)

    @property
    def hidden_seconds(self) -> float:
        """The part of `seconds` that collectives take which the program overlaps."""
        return sum(part.hidden_seconds(self.chip) for part in self.parts)

    @property
    def utilisation(self) -> float:
        """FLOPs / (peak FLOP/s of all chips x roofline time), of what `utilisation_of` says."""
        flops = self.model_flops
        if flops is None:
            flops = self.chips * self.total.flops
        return flops / (self.chips * self.chip.peak_flops * self.seconds)

    @property
    def utilisation_of(self) -> str:
        """Whose FLOPs utilisation counts: the model's, or else all that the program computes."""
        return "program" if self.model_flops is None else "model"

    def as_json(self) -> dict:
        """The figures, under fixed names."""
        return {
            "topology": self.topology,
            "chips": self.chips,
            "bytes_per_chip": self.bytes_per_chip,
            "bytes_limit": self.chip.memory_bytes,
            "bytes_by_kind": self.memory._asdict(),
            "flops_per_step": self.total.flops,
            "bytes_moved_per_step": self.total.bytes_moved,
            "bytes_exchanged_per_step": self.total.exchanged,
            "bytes_between_hosts_per_step": self.total.between_hosts,
            "model_flops_per_step": self.model_flops and self.model_flops / self.chips,
            "roofline_seconds": self.seconds,
            "roofline_hidden_seconds": self.hidden_seconds,
            "roofline_mfu": self.utilisation,
            "roofline_mfu_of": self.utilisation_of,
            "compile_seconds": self.compile_seconds,
            "parts": [self._part_json(part) for part in self.parts],
        }

    def _part_json(self, part: Part) -> dict:
        return {
            "name": part.name,
            "times": part.times,
            "flops": part.cost.flops,
            "bytes_moved": part.cost.bytes_moved,
            "bytes_exchanged": part.cost.exchanged,
            "bytes_between_hosts": part.cost.between_hosts,
            "seconds": part.seconds(self.chip),
            "exchange_seconds": part.exchange_seconds(self.chip),
            "hidden_seconds": part.hidden_seconds(self.chip),
        }

    def as_text(self) -> str:
        """The figures for people."""
        memory = ", ".join(
            f"{name} {size / 1e9:.2f}" for name, size in self.memory._asdict().items()
        )
        limit = self.chip.memory_bytes / 1e9
        lines = [
            f"{self.topology}: {self.chips} chips, compiled in {self.compile_seconds:.0f} s",
            f"memory of a chip: {self.bytes_per_chip / 1e9:.2f} GB of {limit:.2f} GB "
            f"({self.share:.0%}); GB: {memory}",
            "",
            markdown_table(PARTS_HEADER, map(self._part_cells, self.parts)),
            "",
            f"roofline {self.seconds * 1e3:.1f} ms, {self.utilisation_of} FLOPs utilisation "
            f"{self.utilisation:.1%}",
        ]
        if self.hidden_seconds:
            lines.append(
                f"of it {self.hidden_seconds * 1e3:.1f} ms are exchange that the program runs "
                "beside arithmetic"
            )
        exchanged = self.total.exchanged.items()
        lines += [f"{kind}: {size / 1e9:.3f} GB" for kind, size in sorted(exchanged) if size]
        if self.chip.network_bandwidth is not None and self.total.between_hosts:
            lines.append(
                f"between hosts: {self.total.between_hosts / 1e9:.3f} GB of a chip, over "
                f"{self.chip.network_bandwidth / 1e9:.0f} GB/s of network, which is assumed"
            )
        if self.heaviest:
            lines += ["", "most bytes in one block, embedding and head (GB, result, from):"]
            lines += [
                f"{row.bytes_moved / 1e9:.3f} {row.kind} {row.result[:70]} {row.source[-80:]}"
                for row in self.heaviest
            ]
        return "\n".join(lines)

    def _part_cells(self, part: Part) -> tuple[str, ...]:
        return (
            part.name,
            str(part.times),
            f"{part.cost.flops / 1e12:.3f}",
            f"{part.cost.bytes_moved / 1e9:.3f}",
            f"{sum(part.cost.exchanged.values()) / 1e9:.3f}",
            f"{part.seconds(self.chip) * 1e3:.2f}",
            f"{part.exchange_seconds(self.chip) * 1e3:.2f}",
        )


def largest_arrays(message: str, topology: str) -> str:
    """The compiler's report on insufficient memory, in a few lines."""
    need = re.search(r"Used \S+ of \S+ hbm|the total memory required .*? exceeds .*?\)", message)
    arrays = re.findall(
        r"Size: (\S+).*?(?:op_name=\"([^\"]*)\")?\s+Shape: (\S+)", message, re.DOTALL
    )
    lines = [f"error: does not fit into {topology}{': ' + need[0] if need else ''}."]
    if arrays:
        lines.append("Largest arrays:")
    lines += [f"  {size} {shape} {source}" for size, source, shape in arrays[:NAMED]]
    return "\n".join([*lines, REMEDY])
