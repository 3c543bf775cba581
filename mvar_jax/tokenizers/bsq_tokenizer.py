"""The bitwise tokenizer: images to maps of bits of every scale, and codes back to images."""

from mvar_jax.array_types import Array, Float, Key, UInt
from mvar_jax.checks import check
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers.bit_tokens import BitTokens
from mvar_jax.tokenizers.residual_tokenizer import ResidualTokenizer


class BSQTokenizer(ResidualTokenizer):
    """The multi-scale bitwise autoencoder of Infinity (arXiv 2412.04431).

    Tokens are uint8 `[batch, n, bits]`. With keys, `training_pair` draws errors for the trunk to
    correct: inputs are sums of codes in which bits were flipped, and the targets of every scale
    are the bits of what is then left (bitwise self-correction).
    """

    @property
    def token_space(self) -> BitTokens:
        """The space of its tokens: as many bits as a token has channels."""
        return BitTokens(self.config.token_channels)

    def inputs_from_tokens(
        self,
        tokens: UInt[Array, "batch total bits"],
        keys: Key[Array, "batch"] | None = None,
        schedule: ScaleSchedule | None = None,
    ) -> Float[Array, "batch _ word"]:
        """The inputs of `training_pair` without keys, from its targets instead of features.

        Tokens do not tell what they left of the features, so no targets follow from them that
        would correct flipped bits. Raises ValueError for keys unless `flip_rate` is 0.
        """
        check(
            keys is None or self.config.flip_rate == 0,
            f"tokenizer.flip_rate: got {self.config.flip_rate} for training on tokens, expected 0, "
            "since self-correction needs the images; train on images, or set it to 0.",
        )
        return super().inputs_from_tokens(tokens, None, schedule)

    def _training_pyramid(self, features, keys, schedule):
        flips = () if keys is None else self.quantizer.draw_flips(keys, schedule)
        return self.quantizer.pyramid(features, schedule, flips)
