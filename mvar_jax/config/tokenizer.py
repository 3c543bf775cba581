"""The settings of a tokenizer."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from mvar_jax.checks import check, check_range
from mvar_jax.scales import VAR_256, ScaleSchedule

# Settings that only one quantizer reads.
OF_VQ = ("vocabulary", "shared_convolutions", "residual_ratio", "normalize_codes")
OF_BSQ = ("patch", "flip_rate", "flip_scales")


@dataclass(frozen=True)
class TokenizerConfig:
    """The multi-scale residual tokenizer, of codes (quantizer "vq") or of bits ("bsq").

    By default that of VAR (arXiv 2404.02905, section 3; ch160v4096z32). `image_size` is (height,
    width) in pixels, `scales` the sizes of the token maps; the last one must be the image divided
    by `stride`. `code_channels` are those of the latent map, with bsq its bits. `stem_stride` 1 is
    the official 3x3 stem; with a larger one the first layer folds patches into channels and the
    last unfolds them, for small images on small machines. `commitment` weighs the distance of the
    latent map from what is quantized. Encoder and decoder compute in `compute_dtype`, "float32" or
    "bfloat16"; parameters, latent maps and the quantizer are float32.

    Of vq alone: `shared_convolutions` residual convolutions are shared over the scales; 0 means
    one per scale.

    Of bsq alone (Infinity, arXiv 2412.04431): a token folds `patch` x `patch` positions of the
    latent map. In training the trunk, up to the share `flip_rate` of the bits of the first
    `flip_scales` scales are flipped, for it to correct; the tokenizer's own training reads neither.
    """

    quantizer: str = "vq"
    image_size: tuple[int, int] = (256, 256)
    scales: tuple[tuple[int, int], ...] = VAR_256.sizes
    vocabulary: int = 4096
    code_channels: int = 32
    base_channels: int = 160
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks_per_level: int = 2
    stem_stride: int = 1
    patch: int = 1
    norm_groups: int = 32
    attention: bool = True
    shared_convolutions: int = 4
    residual_ratio: float = 0.5
    normalize_codes: bool = False
    commitment: float = 0.25
    compute_dtype: str = "float32"
    flip_rate: float = 0.3
    flip_scales: int = 13

    def __post_init__(self):
        check(
            self.quantizer in ("vq", "bsq"),
            f"tokenizer.quantizer: got {self.quantizer!r}, expected one of ('vq', 'bsq').",
        )
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
            "patch",
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
        dtypes = ("float32", "bfloat16")
        check(
            self.compute_dtype in dtypes,
            f"tokenizer.compute_dtype: got {self.compute_dtype!r}, expected one of {dtypes}.",
        )
        check_range("tokenizer.flip_rate", self.flip_rate, 0.0, 1.0)
        check(
            self.flip_scales >= 0,
            f"tokenizer.flip_scales: got {self.flip_scales}, expected 0 (none) or more.",
        )
        check_unread("tokenizer", self, OF_BSQ if self.quantizer == "vq" else OF_VQ, self.quantizer)
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
        return self.patch * self.stem_stride * 2 ** (len(self.channel_multipliers) - 1)

    @property
    def token_channels(self) -> int:
        """Channels of the codes of a token, which a trunk reads; with bsq also its bits."""
        return self.code_channels * self.patch**2


def check_unread(section: str, settings: Any, unread: Collection[str], quantizer: str) -> None:
    """Raises ValueError for a setting that is not at its default where this quantizer reads none.

    settings: the dataclass of a config's section
    unread: the names of its settings that the quantizer does not read
    """
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        check(
            item.name not in unread or value == item.default,
            f"{section}.{item.name}: got {value!r}, but quantizer {quantizer!r} does not read it; "
            f"leave it at {item.default!r}, or change tokenizer.quantizer.",
        )
