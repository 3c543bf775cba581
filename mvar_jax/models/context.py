"""Which scales the tokens of a block belong to."""

from dataclasses import dataclass

from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class ScaleContext:
    """Which scales the tokens of a block belong to; static under jit.

    `scale` is the index of the one scale that is being decoded, or None for all scales of the
    schedule, joined.
    """

    schedule: ScaleSchedule
    scale: int | None = None

    @classmethod
    def single(cls) -> "ScaleContext":
        """A context of one token."""
        return cls(ScaleSchedule.squares(1))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The slice of the tokens that belongs to each scale."""
        if self.scale is None:
            return self.schedule.slices
        return (slice(0, self.schedule.lengths[self.scale]),)
