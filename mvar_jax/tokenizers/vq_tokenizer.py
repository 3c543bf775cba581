"""The VQ tokenizer: images to token maps of every scale, and codes back to images."""

import flax.linen as nn
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int, Key
from mvar_jax.checks import check
from mvar_jax.config import TokenizerConfig
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers.autoencoder import Decoder, Encoder
from mvar_jax.tokenizers.residual_vq import ResidualQuantizer
from mvar_jax.tokenizers.token_space import CategoricalTokens


class VQTokenizer(nn.Module):
    """The multi-scale VQ autoencoder of VAR (arXiv 2404.02905, section 3).

    Images are float32 NHWC in [-1, 1]. Call its methods as
    `tokenizer.apply({"params": params}, images, method="encode")`; `init` traces `reconstruct`.
    All computation is float32.
    """

    config: TokenizerConfig

    def setup(self):
        """Encoder, quantizer, decoder, and a 3x3 convolution between each two."""
        channels = self.config.code_channels
        self.encoder = Encoder(self.config)
        self.encoder_projection = nn.Conv(channels, (3, 3))
        self.quantizer = ResidualQuantizer(self.config)
        self.decoder_projection = nn.Conv(channels, (3, 3))
        self.decoder = Decoder(self.config)

    @property
    def schedule(self) -> ScaleSchedule:
        """The sizes of the token maps."""
        return self.config.schedule

    @property
    def token_space(self) -> CategoricalTokens:
        """The space of its tokens: indices into the vocabulary."""
        return CategoricalTokens(self.config.vocabulary)

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
        return self.encoder_projection(self.encoder(images))

    def quantize(
        self, features: Float[Array, "batch h w code"], schedule: ScaleSchedule | None = None
    ) -> tuple[Int[Array, "batch _"], ...]:
        """The tokens of every scale, coarse to fine, int32 in row-major order."""
        pyramid = self.quantizer.pyramid(features, schedule or self.schedule)
        return tuple(scale.tokens for scale in pyramid)

    def training_pair(
        self,
        features: Float[Array, "batch h w code"],
        keys: Key[Array, "batch"] | None = None,
        schedule: ScaleSchedule | None = None,
    ) -> tuple[Float[Array, "batch _ code"], Int[Array, "batch total"]]:
        """The trunk's training data: teacher-forcing inputs and target tokens.

        Inputs cover all scales but the first, `[batch, total - lengths[0], code]`: for each scale,
        the sum of the coarser ones averaged down to its size. Targets are the tokens of all scales,
        joined. Nothing is random; `keys` are ignored.
        """
        schedule = schedule or self.schedule
        pyramid = self.quantizer.pyramid(features, schedule)
        inputs = [self.start(features.shape[0], schedule)[:, :0, 0]]  # none for a single scale
        inputs += [scale.next_input for scale in pyramid[:-1]]
        targets = [scale.tokens for scale in pyramid]
        return jnp.concatenate(inputs, axis=1), jnp.concatenate(targets, axis=1)

    def inputs_from_tokens(
        self,
        tokens: Int[Array, "batch total"],
        keys: Key[Array, "batch"] | None = None,
        schedule: ScaleSchedule | None = None,
    ) -> Float[Array, "batch _ code"]:
        """The teacher-forcing inputs of `training_pair`, from its targets instead of features."""
        schedule = schedule or self.schedule
        running = self.start(tokens.shape[0], schedule)
        inputs = [running[:, :0, 0]]  # there is none for a single scale
        for scale, part in enumerate(schedule.slices[:-1]):
            codes = self.embed(tokens[:, part])
            running, next_input = self.accumulate(running, codes, scale, schedule)
            assert next_input is not None  # another scale follows
            inputs.append(next_input)
        return jnp.concatenate(inputs, axis=1)

    def embed(self, tokens: Int[Array, "batch n"]) -> Float[Array, "batch n code"]:
        """The codes of tokens."""
        return self.quantizer.embed(tokens)

    def mix(self, mixture: Float[Array, "batch n vocab"]) -> Float[Array, "batch n code"]:
        """The weighted sums of all codes, for weights that add up to 1."""
        return self.quantizer.mix(mixture)

    def start(
        self, batch: int, schedule: ScaleSchedule | None = None
    ) -> Float[Array, "batch h w code"]:
        """The running reconstruction before the first scale."""
        return self.quantizer.start(batch, schedule or self.schedule)

    def accumulate(
        self,
        running: Float[Array, "batch h w code"],
        codes: Float[Array, "batch n code"],
        scale: int,
        schedule: ScaleSchedule | None = None,
    ) -> tuple[Float[Array, "batch h w code"], Float[Array, "batch _ code"] | None]:
        """Adds the codes of one scale; returns the sum and the next scale's input, if any.

        It takes codes, not tokens, so that mixtures of codes work too. Raises ValueError if the
        number of codes is not that of the scale.
        """
        return self.quantizer.accumulate(running, codes, scale, schedule or self.schedule)

    def decode(self, running: Float[Array, "batch h w code"]) -> Float[Array, "batch _ _ 3"]:
        """The images of summed codes, clipped to [-1, 1]."""
        return jnp.clip(self._decode(running), -1.0, 1.0)

    def reconstruct(
        self,
        images: Float[Array, "batch height width 3"],
        schedule: ScaleSchedule | None = None,
    ) -> tuple[Float[Array, "batch height width 3"], Float[Array, ""]]:
        """The training pass: images through the quantizer and back, and the quantizer's loss.

        The reconstruction is not clipped, and its gradient passes straight through the
        quantizer. Raises ValueError for images of another size.
        """
        features = self.encode(images, schedule)
        quantized, loss = self.quantizer(features, schedule or self.schedule)
        return self._decode(quantized), loss

    def __call__(self, images):
        """`reconstruct`."""
        return self.reconstruct(images)

    def _decode(self, running):
        return self.decoder(self.decoder_projection(running))
