"""The multi-scale residual quantizer: a latent map as token maps from coarse to fine."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from mvar_jax.array_types import Array, Float, Int
from mvar_jax.checks import check
from mvar_jax.config import TokenizerConfig
from mvar_jax.ops.module import Conv, Module
from mvar_jax.ops.quantize import nearest_code
from mvar_jax.ops.resize import resize_area, resize_bicubic
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers.training_pass import (
    Depth,
    QuantizedScale,
    kept_sum,
    mean_over_kept,
    mean_square,
)


class ResidualQuantizer(Module):
    """Quantizes a map scale by scale; each scale encodes the residual of the coarser ones.

    The codes of a scale are interpolated to the full map and pass a residual convolution, shared by
    neighbouring scales, before they are summed (VAR, arXiv 2404.02905, algorithms 1 and 2).
    """

    config: TokenizerConfig

    def setup(self):
        """The codebook and the residual convolutions."""
        config = self.config
        self.codebook = self.param(
            "codebook", small_codes, (config.vocabulary, config.code_channels), jnp.float32
        )
        self.residual = [
            Conv(config.code_channels, (3, 3), precision=jax.lax.Precision.HIGHEST)
            for _ in range(config.shared_convolutions or len(config.schedule))
        ]

    def start(self, batch: int, schedule: ScaleSchedule) -> Float[Array, "batch h w code"]:
        """The running reconstruction before the first scale: zeros, float32."""
        return jnp.zeros((batch, *schedule.last, self.config.code_channels), jnp.float32)

    def embed(self, tokens: Int[Array, "batch n"]) -> Float[Array, "batch n code"]:
        """The codes of tokens."""
        return jnp.take(self.codebook, tokens, axis=0)

    def mix(self, weights: Float[Array, "batch n vocab"]) -> Float[Array, "batch n code"]:
        """The weighted sums of all codes, for weights that add up to 1."""
        return jnp.matmul(weights, self.codebook, precision=jax.lax.Precision.HIGHEST)

    def accumulate(
        self,
        running: Float[Array, "batch h w code"],
        codes: Float[Array, "batch n code"],
        scale: int,
        schedule: ScaleSchedule,
    ) -> tuple[Float[Array, "batch h w code"], Float[Array, "batch _ code"] | None]:
        """Adds the codes of one scale to the running reconstruction.

        Returns the sum and the input from which the next scale is predicted: the sum averaged
        down to the next scale's size, or None after the last scale. Raises ValueError when the
        number of codes is not the scale's.
        """
        height, width = schedule.sizes[scale]
        check(
            codes.shape[1] == height * width,
            f"tokens: got {codes.shape[1]} at scale {scale}, expected {height} x {width}.",
        )
        maps = rearrange(codes, "batch (h w) code -> batch h w code", h=height)
        maps = resize_bicubic(maps, schedule.last)
        ratio = self.config.residual_ratio
        running = running + (1 - ratio) * maps + ratio * self._convolution(scale, schedule)(maps)
        return running, self.next_input(running, scale, schedule)

    def next_input(
        self, running: Float[Array, "batch h w code"], scale: int, schedule: ScaleSchedule
    ) -> Float[Array, "batch _ code"] | None:
        """The sum averaged down to the size of the next scale, None after the last."""
        last = scale + 1 == len(schedule)
        return None if last else vectors_at(running, schedule.sizes[scale + 1])

    def _convolution(self, scale, schedule):
        """The residual convolution of a scale."""
        shared = self.config.shared_convolutions
        check(
            shared > 0 or len(schedule) <= len(self.residual),
            f"scales: got {schedule}, but the tokenizer has convolutions for {len(self.residual)} "
            "scales only; use as many or fewer, or train it with tokenizer.shared_convolutions.",
        )
        return self.residual[shared_index(shared, len(schedule))[scale] if shared else scale]

    def pyramid(
        self, features: Float[Array, "batch h w code"], schedule: ScaleSchedule
    ) -> list[QuantizedScale]:
        """Quantizes a map; gradients flow to codebook and convolutions, not to the map."""
        features = jax.lax.stop_gradient(features)
        running = self.start(features.shape[0], schedule)
        pyramid = []
        for scale, size in enumerate(schedule.sizes):
            left = vectors_at(features - running, size)
            tokens = nearest_code(left, self.codebook, self.config.normalize_codes)
            running, next_input = self.accumulate(running, self.embed(tokens), scale, schedule)
            pyramid.append(QuantizedScale(tokens, running, next_input, left))
        return pyramid

    def __call__(
        self,
        features: Float[Array, "batch h w code"],
        schedule: ScaleSchedule,
        depth: Depth = None,
    ) -> tuple[Float[Array, "batch h w code"], Float[Array, ""], list[QuantizedScale]]:
        """The quantized map, straight-through in its gradient, the quantizer's loss, all scales.

        The loss is the mean over scales of |f_k - sg(f)|^2 + commitment |sg(f_k) - f|^2, with f_k
        the sum up to scale k (VQ-VAE, arXiv 1711.00937, equation 3). Of an image with a `depth`,
        only so many scales add to the map and to the loss.
        """
        if self.is_initializing():
            for convolution in self.residual:  # the official model has all, used or not
                convolution(features)
        stop = jax.lax.stop_gradient
        pyramid = self.pyramid(features, schedule)
        sums = [scale.running for scale in pyramid]
        losses = [
            mean_square(total - stop(features), depth)
            + self.config.commitment * mean_square(stop(total) - features, depth)
            for total in sums
        ]
        quantized = features + stop(kept_sum(sums, depth) - features)
        return quantized, mean_over_kept(losses, depth), pyramid


def small_codes(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Initial values of a codebook: uniform within 1 / vocabulary of zero.

    Compared with features of order 1 all codes start at one point, and training spreads them. Of
    codes of order 1 most would never be the nearest to any feature, and stay unused.
    """
    limit = 1 / shape[0]
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def vectors_at(
    maps: Float[Array, "batch h w code"], size: tuple[int, int]
) -> Float[Array, "batch n code"]:
    """Maps averaged down to a scale's size, as vectors in row-major order."""
    return rearrange(resize_area(maps, size), "batch h w code -> batch (h w) code")


@cache
def shared_index(convolutions: int, scales: int) -> tuple[int, ...]:
    """The index of the shared residual convolution of every scale.

    Scale k uses the convolution whose tick is nearest to k / (scales - 1), the first on a tie. The
    arithmetic must be exactly this one in double precision: in some schedules two ticks are equally
    near and the last bit decides, and the published weights were trained with that choice.
    """
    margin = 1 / 3 / convolutions if convolutions == 4 else 1 / 2 / convolutions
    ticks = np.linspace(margin, 1 - margin, convolutions)
    points = (k / max(scales - 1, 1) for k in range(scales))
    return tuple(int(np.argmin(np.abs(ticks - point))) for point in points)
