"""What tokenizers of residual quantizers share: an autoencoder around a quantizer."""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Key
from mvar_jax.checks import check
from mvar_jax.config import TokenizerConfig
from mvar_jax.ops.module import Module
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers.autoencoder import Decoder, Encoder
from mvar_jax.tokenizers.base import Tokens
from mvar_jax.tokenizers.residual_bsq import BinaryQuantizer
from mvar_jax.tokenizers.residual_vq import ResidualQuantizer
from mvar_jax.tokenizers.training_pass import Depth, QuantizedScale, TrainingPass

QUANTIZERS: dict[str, Any] = {"vq": ResidualQuantizer, "bsq": BinaryQuantizer}


class ResidualTokenizer(Module):
    """An autoencoder whose latent map is quantized scale by scale; see `base.Tokenizer`.

    Images are float32 NHWC in [-1, 1]. Call its methods as
    `tokenizer.apply({"params": params}, images, method="encode")`; `init` traces `reconstruct`.
    The autoencoder computes in the config's `compute_dtype`; all else is float32.
    """

    config: TokenizerConfig

    def setup(self):
        """Encoder, quantizer and decoder."""
        self.encoder = self._computing(Encoder)(self.config)
        self.quantizer = QUANTIZERS[self.config.quantizer](self.config)
        self.decoder = self._computing(Decoder)(self.config)

    @property
    def schedule(self) -> ScaleSchedule:
        """The sizes of the token maps."""
        return self.config.schedule

    def encode(
        self, images: Float[Array, "batch _ _ 3"], schedule: ScaleSchedule | None = None
    ) -> Float[Array, "batch h w code"]:
        """The latent maps of images. Raises ValueError for images of another size."""
        stride = self.config.stride
        size = images.shape[1:3]
        expected = tuple(stride * side for side in (schedule or self.schedule).last)
        check(
            size == expected,
            f"images: got {size[0]}x{size[1]} pixels, expected {expected[0]}x{expected[1]}; "
            "resize them, or change tokenizer.image_size and scales.",
        )
        return self._encode(images.astype(self.config.compute_dtype)).astype(jnp.float32)

    def quantize(
        self, features: Float[Array, "batch h w code"], schedule: ScaleSchedule | None = None
    ) -> tuple[Tokens, ...]:
        """The tokens of every scale, coarse to fine, in row-major order."""
        pyramid = self.quantizer.pyramid(features, schedule or self.schedule)
        return tuple(scale.tokens for scale in pyramid)

    def training_pair(
        self,
        features: Float[Array, "batch h w code"],
        keys: Key[Array, "batch"] | None = None,
        schedule: ScaleSchedule | None = None,
    ) -> tuple[Float[Array, "batch _ word"], Tokens]:
        """The trunk's training data: teacher-forcing inputs and target tokens.

        Inputs cover all scales but the first, `[batch, total - lengths[0], word]`: for each scale,
        the sum of the coarser ones at its size. Targets are the tokens of all scales, joined.
        """
        pyramid = self._training_pyramid(features, keys, schedule or self.schedule)
        inputs = self._join(features.shape[0], (scale.next_input for scale in pyramid))
        return inputs, jnp.concatenate([scale.tokens for scale in pyramid], axis=1)

    def inputs_from_tokens(
        self,
        tokens: Tokens,
        keys: Key[Array, "batch"] | None = None,
        schedule: ScaleSchedule | None = None,
    ) -> Float[Array, "batch _ word"]:
        """The teacher-forcing inputs of `training_pair`, from its targets instead of features."""
        schedule = schedule or self.schedule
        running, inputs = self.start(tokens.shape[0], schedule), []
        for scale, part in enumerate(schedule.slices):
            codes = self.embed(tokens[:, part])
            running, next_input = self.accumulate(running, codes, scale, schedule)
            inputs.append(next_input)
        return self._join(tokens.shape[0], inputs)

    def embed(self, tokens: Tokens) -> Float[Array, "batch n word"]:
        """The codes of tokens."""
        return self.quantizer.embed(tokens)

    def mix(self, mixture: Float[Array, "batch n _"]) -> Float[Array, "batch n word"]:
        """The soft codes of the token space's `mixture`."""
        return self.quantizer.mix(mixture)

    def start(
        self, batch: int, schedule: ScaleSchedule | None = None
    ) -> Float[Array, "batch h w code"]:
        """The running reconstruction before the first scale."""
        return self.quantizer.start(batch, schedule or self.schedule)

    def accumulate(
        self,
        running: Float[Array, "batch h w code"],
        codes: Float[Array, "batch n word"],
        scale: int,
        schedule: ScaleSchedule | None = None,
    ) -> tuple[Float[Array, "batch h w code"], Float[Array, "batch _ word"] | None]:
        """Adds the codes of one scale; returns the sum and the next scale's input, if any.

        It takes codes, not tokens, so that mixtures of codes work too. Raises ValueError if the
        number of codes is not that of the scale.
        """
        return self.quantizer.accumulate(running, codes, scale, schedule or self.schedule)

    def next_input(
        self,
        running: Float[Array, "batch h w code"],
        scale: int,
        schedule: ScaleSchedule | None = None,
    ) -> Float[Array, "batch _ word"] | None:
        """The input of the next scale, as `accumulate` returns it; None after the last."""
        return self.quantizer.next_input(running, scale, schedule or self.schedule)

    def decode(self, running: Float[Array, "batch h w code"]) -> Float[Array, "batch _ _ 3"]:
        """The images of summed codes, clipped to [-1, 1]."""
        return jnp.clip(self._images(running), -1.0, 1.0)

    def reconstruct(
        self,
        images: Float[Array, "batch height width 3"],
        schedule: ScaleSchedule | None = None,
    ) -> tuple[Float[Array, "batch height width 3"], Float[Array, ""]]:
        """The reconstruction and the quantizer's loss of `training_pass`."""
        made = self.training_pass(images, schedule=schedule)
        return made.reconstruction, made.quantizer_loss

    def training_pass(
        self,
        images: Float[Array, "batch height width 3"],
        depth: Depth = None,
        schedule: ScaleSchedule | None = None,
    ) -> TrainingPass:
        """Images through the quantizer and back, the quantizer's loss, and all scales.

        The reconstruction, of the first `depth` scales where they are given, is not clipped, and
        its gradient passes straight through the quantizer. Raises ValueError for images of another
        size.
        """
        features = self.encode(images, schedule)
        quantized, loss, scales = self.quantizer(features, schedule or self.schedule, depth)
        return TrainingPass(self._images(quantized), loss, scales)

    def __call__(self, images):
        """`reconstruct`."""
        return self.reconstruct(images)

    def _computing(self, kind: type[Module]) -> type[Module]:
        """A kind of module that computes in the config's dtype, of float32 parameters."""
        dtype = self.config.compute_dtype
        if dtype == "float32" or self.is_initializing():
            return kind
        return nn.map_variables(
            kind, "params", lambda params: jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        )

    def _images(self, running):
        return self._decode(running.astype(self.config.compute_dtype)).astype(jnp.float32)

    def _encode(self, images):
        return self.encoder(images)

    def _decode(self, running):
        return self.decoder(running)

    def _training_pyramid(self, features, keys, schedule) -> list[QuantizedScale]:
        """The quantized scales to train on; without randomness, so that keys are ignored."""
        return self.quantizer.pyramid(features, schedule)

    def _join(self, batch: int, inputs: Iterable[Array | None]) -> Float[Array, "batch _ word"]:
        """The inputs of all scales but the first; there is none for a single scale."""
        none = jnp.zeros((batch, 0, self.config.token_channels), jnp.float32)
        return jnp.concatenate([none, *(x for x in inputs if x is not None)], axis=1)
