"""The multi-scale residual quantizer of bits: a latent map as maps of bits from coarse to fine."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Bool, Float, Key, Shaped, UInt
from mvar_jax.checks import check
from mvar_jax.config import TokenizerConfig
from mvar_jax.ops.noise import fold_each, token_uniform, uniform_per_image
from mvar_jax.ops.quantize import corners, nearest_corner
from mvar_jax.ops.resize import resize_area, resize_bilinear
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers.training_pass import (
    Depth,
    QuantizedScale,
    kept_sum,
    mean_over_kept,
    mean_square,
)

RATE_STREAM, FLIP_STREAM = 2, 3  # folded into an image's key before drawing; 1 is a block's

Flips = Sequence[Bool[Array, "batch _ bits"]]
"""For the first scales, which bits of their tokens are flipped."""


@dataclass(frozen=True)
class BinaryQuantizer:
    """Quantizes a map scale by scale to signs on the unit sphere; it has no parameters.

    Each scale encodes the residual of the coarser ones, averaged down to its size. Codes are
    interpolated to the full map and summed (Infinity, arXiv 2412.04431, with binary
    spherical quantization, arXiv 2406.07548). A token covers `patch` x `patch` positions of the
    map: schedules count tokens, and `code` channels become the `word` channels of a token.
    """

    config: TokenizerConfig

    def start(self, batch: int, schedule: ScaleSchedule) -> Float[Array, "batch h w code"]:
        """The running reconstruction before the first scale: zeros, float32."""
        size = self._map_size(schedule.last)
        return jnp.zeros((batch, *size, self.config.code_channels), jnp.float32)

    def embed(self, tokens: UInt[Array, "batch n bits"]) -> Float[Array, "batch n word"]:
        """The codes of tokens: +-1 / sqrt(code channels)."""
        return corners(tokens, self.config.code_channels)

    def mix(self, weights: Float[Array, "batch n bits"]) -> Float[Array, "batch n word"]:
        """The expected codes, for the probability of every bit to be 1."""
        return corners(weights, self.config.code_channels)

    def accumulate(
        self,
        running: Float[Array, "batch h w code"],
        codes: Float[Array, "batch n word"],
        scale: int,
        schedule: ScaleSchedule,
    ) -> tuple[Float[Array, "batch h w code"], Float[Array, "batch _ word"] | None]:
        """Adds the codes of one scale to the running reconstruction.

        Returns the sum and the input from which the next scale is predicted: the sum sampled, not
        averaged, at the next scale's size, or None after the last scale. Raises ValueError when
        the number of codes is not the scale's.
        """
        height, width = schedule.sizes[scale]
        check(
            codes.shape[1] == height * width,
            f"tokens: got {codes.shape[1]} at scale {scale}, expected {height} x {width}.",
        )
        maps = self.unfold(codes, schedule.sizes[scale])
        running = running + resize_bilinear(maps, self._map_size(schedule.last))
        return running, self.next_input(running, scale, schedule)

    def next_input(
        self, running: Float[Array, "batch h w code"], scale: int, schedule: ScaleSchedule
    ) -> Float[Array, "batch _ word"] | None:
        """The sum sampled at the size of the next scale, as tokens, None after the last."""
        if scale + 1 == len(schedule):
            return None
        following = self._map_size(schedule.sizes[scale + 1])
        return self.fold(resize_bilinear(running, following))

    def pyramid(
        self,
        features: Float[Array, "batch h w code"],
        schedule: ScaleSchedule,
        flips: Flips = (),
    ) -> list[QuantizedScale]:
        """Quantizes a map; gradients pass straight through the signs.

        With `flips` these bits are flipped before a scale is added, and only there: the tokens
        stay right, and those of the next scales correct the errors (bitwise self-correction,
        Infinity).
        """
        running = self.start(features.shape[0], schedule)
        pyramid = []
        for scale, size in enumerate(schedule.sizes):
            left = resize_area(features - jax.lax.stop_gradient(running), self._map_size(size))
            bits, codes = map(self.fold, nearest_corner(left))
            if scale < len(flips):
                codes = self.embed(bits ^ flips[scale].astype(jnp.uint8))
            running, next_input = self.accumulate(running, codes, scale, schedule)
            left = rearrange(left, "batch h w code -> batch (h w) code")
            pyramid.append(QuantizedScale(bits, running, next_input, left))
        return pyramid

    def draw_flips(self, keys: Key[Array, "batch"], schedule: ScaleSchedule) -> Flips:
        """Errors to train with, at the first `flip_scales` scales.

        Every image draws one rate per scale, in whole percent from 0 to `flip_rate`, and flips
        each bit with that probability.
        """
        flips = []
        for scale, length in enumerate(schedule.lengths[: self.config.flip_scales]):
            share = uniform_per_image(fold_each(fold_each(keys, RATE_STREAM), scale))
            percent = jnp.floor(share * (round(100 * self.config.flip_rate) + 1))
            noise = token_uniform(
                fold_each(keys, FLIP_STREAM), scale, length, self.config.token_channels
            )
            flips.append(noise < percent[:, None, None] / 100)
        return flips

    def fold(self, maps: Shaped[Array, "batch h w code"]) -> Shaped[Array, "batch n word"]:
        """Maps of codes, or of their bits, as tokens.

        Of the channels of a token, c patch^2 + patch y + x is channel c at row y, column x of
        what it covers.
        """
        patch = self.config.patch
        return rearrange(maps, "b (h y) (w x) code -> b (h w) (code y x)", y=patch, x=patch)

    def unfold(
        self, tokens: Shaped[Array, "batch n word"], size: tuple[int, int]
    ) -> Shaped[Array, "batch h w code"]:
        """The inverse of `fold`, for a scale of `size` = (height, width) in tokens."""
        patch, (height, _) = self.config.patch, size
        return rearrange(
            tokens, "b (h w) (code y x) -> b (h y) (w x) code", h=height, y=patch, x=patch
        )

    def __call__(
        self,
        features: Float[Array, "batch h w code"],
        schedule: ScaleSchedule,
        depth: Depth = None,
    ) -> tuple[Float[Array, "batch h w code"], Float[Array, ""], list[QuantizedScale]]:
        """The quantized map, straight-through in its gradient, the quantizer's loss, all scales.

        The loss is commitment |sg(f_k) - f|^2, the mean over scales, with f_k the sum up to scale
        k: as for `ResidualQuantizer`, without the term of the codebook.
        """
        pyramid = self.pyramid(features, schedule)
        sums = [scale.running for scale in pyramid]
        losses = [mean_square(jax.lax.stop_gradient(total) - features, depth) for total in sums]
        loss = mean_over_kept(losses, depth, self.config.commitment)
        return kept_sum(sums, depth), loss, pyramid

    def _map_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the map of a scale, from those in tokens."""
        height, width = size
        return height * self.config.patch, width * self.config.patch
