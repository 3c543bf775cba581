"""The settings of a tokenizer."""

from dataclasses import dataclass

from mvar_jax.checks import check, check_range
from mvar_jax.scales import VAR_256, ScaleSchedule


@dataclass(frozen=True)
class TokenizerConfig:
    """The multi-scale residual VQ tokenizer (VAR, arXiv 2404.02905, section 3; ch160v4096z32).

    `image_size` is (height, width) in pixels, `scales` the sizes of the token maps; the last one
    must be the image divided by `stride`. `stem_stride` 1 is the official 3x3 stem; with a larger
    one the first layer folds patches into channels and the last unfolds them, for small images on
    small machines. `shared_convolutions` residual convolutions are shared over the scales; 0 means
    one per scale.
    """

    image_size: tuple[int, int] = (256, 256)
    scales: tuple[tuple[int, int], ...] = VAR_256.sizes
    vocabulary: int = 4096
    code_channels: int = 32
    base_channels: int = 160
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks_per_level: int = 2
    stem_stride: int = 1
    norm_groups: int = 32
    attention: bool = True
    shared_convolutions: int = 4
    residual_ratio: float = 0.5
    normalize_codes: bool = False
    commitment: float = 0.25

    def __post_init__(self):
        check(
            len(self.image_size) == 2,
            f"tokenizer.image_size: got {self.image_size}, expected (height, width).",
        )
        check_range("tokenizer.vocabulary", self.vocabulary, 2, 2**24)
        for name in (
            "code_channels",
            "base_channels",
            "blocks_per_level",
            "stem_stride",
            "norm_groups",
        ):
            check(
                getattr(self, name) >= 1,
                f"tokenizer.{name}: got {getattr(self, name)}, expected at least 1.",
            )
        check(
            len(self.channel_multipliers) >= 1,
            "tokenizer.channel_multipliers: got none, expected one per level.",
        )
        for multiplier in self.channel_multipliers:
            channels = self.base_channels * multiplier
            check(
                channels % self.norm_groups == 0,
                f"tokenizer: {channels} channels (base_channels {self.base_channels} x "
                f"{multiplier}) do not divide into norm_groups {self.norm_groups}; choose a "
                "divisor.",
            )
        check(
            self.shared_convolutions >= 0,
            f"tokenizer.shared_convolutions: got {self.shared_convolutions}, expected 0 (one a "
            "scale) or more.",
        )
        height, width = (side / self.stride for side in self.image_size)
        check(
            (height, width) == self.schedule.last,
            f"tokenizer: the last scale {self.schedule.last} does not match the image "
            f"{tuple(self.image_size)}, which divided by {self.stride} gives "
            f"({height:g}, {width:g}); change scales or image_size.",
        )

    @property
    def schedule(self) -> ScaleSchedule:
        """The scales as a ScaleSchedule."""
        return ScaleSchedule.of(self.scales)

    @property
    def stride(self) -> int:
        """Pixels per token of the last scale, along each side."""
        return self.stem_stride * 2 ** (len(self.channel_multipliers) - 1)
