"""Which scales the tokens of a block belong to."""

from dataclasses import dataclass

from mvar_jax.config import position_grid
from mvar_jax.ops.rotary import Angles, rotary_angles
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

    def angles(self, dim: int) -> Angles:
        """The rotary angles of the tokens, for heads of `dim` channels."""
        schedule = self.schedule
        angles = rotary_angles(schedule.sizes, position_grid(schedule), dim)
        if self.scale is None:
            return angles
        cos, sin = (array[schedule.slices[self.scale]] for array in angles)
        return cos, sin
