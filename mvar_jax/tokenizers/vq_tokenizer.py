"""The VQ tokenizer: images to token maps of every scale, and codes back to images."""

from mvar_jax.array_types import Array, Float, Key
from mvar_jax.ops.module import Conv
from mvar_jax.tokenizers.data_start import codes_from_features
from mvar_jax.tokenizers.residual_tokenizer import ResidualTokenizer
from mvar_jax.tokenizers.token_space import CategoricalTokens


class VQTokenizer(ResidualTokenizer):
    """The multi-scale VQ autoencoder of VAR (arXiv 2404.02905, section 3).

    Tokens are int32 `[batch, n]`. Nothing is random: keys are ignored.
    """

    def setup(self):
        """Encoder, quantizer, decoder, and a 3x3 convolution between each two."""
        super().setup()
        convolution = self._computing(Conv)
        self.encoder_projection = convolution(self.config.code_channels, (3, 3))
        self.decoder_projection = convolution(self.config.code_channels, (3, 3))

    @property
    def token_space(self) -> CategoricalTokens:
        """The space of its tokens: indices into the vocabulary."""
        return CategoricalTokens(self.config.vocabulary)

    def codes_from_features(
        self, features: Float[Array, "batch h w code"], key: Key[Array, ""]
    ) -> Float[Array, "vocab code"]:
        """A codebook to start from, for the features of some images; see `data_start`."""
        return codes_from_features(self.quantizer, features, self.schedule, key)

    def _encode(self, images):
        return self.encoder_projection(self.encoder(images))

    def _decode(self, running):
        return self.decoder(self.decoder_projection(running))
