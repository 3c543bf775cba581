"""The sizes of the scales that an image is generated in, their lengths and offsets."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class ScaleSchedule:
    """An ordered list of token-map sizes, coarse to fine. Hashable, so static under jit.

    `sizes` holds `(height, width)` in tokens per scale; maps need not be square. Tokens are
    ordered scale by scale, row-major inside a scale (VAR, arXiv 2404.02905, section 3).

    Raises ValueError when there is no scale, a side is not a positive integer, or a scale is
    larger than the last one.
    """

    sizes: tuple[tuple[int, int], ...]

    def __post_init__(self):
        object.__setattr__(self, "sizes", tuple((int(h), int(w)) for h, w in self.sizes))
        if not self.sizes:
            raise ValueError("scales: got no scale, expected at least one (height, width).")
        for height, width in self.sizes:
            if height < 1 or width < 1:
                raise ValueError(
                    f"scales: got {(height, width)}, expected sides of at least 1 token."
                )
        for height, width in self.sizes:
            if height > self.last[0] or width > self.last[1]:
                raise ValueError(
                    f"scales: {(height, width)} exceeds the last scale {self.last}; "
                    "order the scales from coarse to fine."
                )

    @classmethod
    def squares(cls, *sides: int) -> "ScaleSchedule":
        """The schedule of square maps with the given sides in tokens."""
        return cls(tuple((side, side) for side in sides))

    @classmethod
    def of(cls, sizes: "ScaleSchedule | Iterable") -> "ScaleSchedule":
        """A schedule from itself or from any iterable of `(height, width)`."""
        if isinstance(sizes, ScaleSchedule):
            return sizes
        return cls(tuple((height, width) for height, width in sizes))

    def __len__(self) -> int:
        return len(self.sizes)

    def __str__(self) -> str:
        return ", ".join(f"{height}x{width}" for height, width in self.sizes)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of every scale."""
        return tuple(height * width for height, width in self.sizes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Position of the first token of every scale in the joined sequence."""
        return tuple(sum(self.lengths[:k]) for k in range(len(self)))

    @property
    def total(self) -> int:
        """Tokens of all scales together."""
        return sum(self.lengths)

    @property
    def last(self) -> tuple[int, int]:
        """`(height, width)` of the finest scale, which is the size of the latent map."""
        return self.sizes[-1]

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The slice of every scale in the joined sequence."""
        return tuple(slice(o, o + n) for o, n in zip(self.offsets, self.lengths))


VAR_256 = ScaleSchedule.squares(1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
VAR_512 = ScaleSchedule.squares(1, 2, 3, 4, 6, 9, 13, 18, 24, 32)
VAR_1024 = ScaleSchedule.squares(1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64)
VAR_SCHEDULES = {"256": VAR_256, "512": VAR_512, "1024": VAR_1024}  # by side in pixels
