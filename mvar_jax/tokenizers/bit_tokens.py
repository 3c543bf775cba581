"""The token space of bits: loss, filters and sampling of tokens that are rows of bits."""

from dataclasses import dataclass

import jax.numpy as jnp
from einops import rearrange, reduce

from mvar_jax.array_types import Array, Float, Int, Key, UInt
from mvar_jax.ops.noise import token_gumbel
from mvar_jax.tokenizers.token_space import CategoricalTokens

BIT = CategoricalTokens(2)


@dataclass(frozen=True)
class BitTokens:
    """Tokens are rows of `bits` values 0 or 1, uint8. Hashable, so static under jit.

    Every bit is predicted by itself, as a categorical token of two values. Logits come in pairs:
    entry 2 i + 1 is the score of bit i being 1, entry 2 i that of 0 (Infinity, arXiv
    2412.04431).
    """

    bits: int

    @property
    def logits(self) -> int:
        """Number of logits per token: two per bit."""
        return 2 * self.bits

    def count(self, tokens: UInt[Array, "batch n bits"]) -> Int[Array, "bits 2"]:
        """How often every bit is 0, and 1, int32."""
        ones = jnp.sum(tokens, axis=(0, 1), dtype=jnp.int32)
        return jnp.stack([tokens.shape[0] * tokens.shape[1] - ones, ones], axis=-1)

    def usage(self, counts: Int[Array, "bits 2"]) -> Float[Array, ""]:
        """The share of the bits whose both values occur, however rarely."""
        return jnp.mean(jnp.min(counts, axis=-1) > 0)

    def accuracy(
        self, logits: Float[Array, "batch n logits"], targets: UInt[Array, "batch n bits"]
    ) -> Float[Array, "batch n"]:
        """The share of every token's bits that have the larger logit, from 0 to 1, float32."""
        return self._mean(BIT.accuracy(self._pairs(logits), self._joined(targets)))

    def loss(
        self,
        logits: Float[Array, "batch n logits"],
        targets: UInt[Array, "batch n bits"],
        smoothing: Float[Array, ""] | float = 0.0,
    ) -> Float[Array, "batch n"]:
        """Cross-entropy of every token in nats, the mean over its bits, float32.

        `smoothing` is the share of a target's probability that is spread evenly over 0 and 1.
        """
        return self._mean(BIT.loss(self._pairs(logits), self._joined(targets), smoothing))

    def log_probabilities(
        self, logits: Float[Array, "batch n logits"]
    ) -> Float[Array, "batch n logits"]:
        """The logarithms of the probabilities of both values of every bit, float32."""
        return self._flat(BIT.log_probabilities(self._pairs(logits)))

    def noise(
        self, keys: Key[Array, "batch"], scale: int, tokens: int
    ) -> Float[Array, "batch n logits"]:
        """Gumbel noise for drawing the `tokens` tokens of one scale, from the images' keys."""
        return token_gumbel(keys, scale, tokens, self.logits)

    def filter(
        self,
        logits: Float[Array, "batch n logits"],
        top_k: Int[Array, ""] | int,
        top_p: Float[Array, ""] | float,
        spared: UInt[Array, "batch n bits"] | None = None,
    ) -> Float[Array, "batch n logits"]:
        """Sets to -inf what top-k and then top-p remove of every bit's choice between 0 and 1.

        A top-k of 1 keeps the likelier value, or both where they are equal; one of 2 or more
        removes nothing. Top-p removes the less likely value if its probability is at most
        1 - top_p. The values that bits have in the tokens `spared` stay.
        """
        bits = None if spared is None else self._joined(spared)
        return self._flat(BIT.filter(self._pairs(logits), top_k, top_p, bits))

    def posterior(
        self,
        logits: Float[Array, "batch n logits"],
        noise: Float[Array, "batch n logits"],
        tokens: UInt[Array, "batch n bits"],
    ) -> Float[Array, "batch n logits"]:
        """Noise given that `tokens` are drawn with it, bit by bit, from any noise."""
        pairs = self._pairs(logits), self._pairs(noise)
        return self._flat(BIT.posterior(*pairs, self._joined(tokens)))

    def sample(
        self, logits: Float[Array, "batch n logits"], noise: Float[Array, "batch n logits"]
    ) -> UInt[Array, "batch n bits"]:
        """Draws every bit from the softmax of its two logits, by the Gumbel-max trick."""
        drawn = BIT.sample(self._pairs(logits), self._pairs(noise))
        return rearrange(drawn, "b (n bits) -> b n bits", bits=self.bits).astype(jnp.uint8)

    def mixture(
        self,
        logits: Float[Array, "batch n logits"],
        noise: Float[Array, "batch n logits"],
        progress: float,
    ) -> Float[Array, "batch n bits"]:
        """The weight of 1 in a soft mixture of both values of every bit: a Gumbel softmax.

        `progress` is as in `CategoricalTokens.mixture`.
        """
        weights = BIT.mixture(self._pairs(logits), self._pairs(noise), progress)[..., 1]
        return rearrange(weights, "b (n bits) -> b n bits", bits=self.bits)

    def _pairs(self, logits):
        return rearrange(logits, "b n (bits value) -> b (n bits) value", bits=self.bits, value=2)

    def _flat(self, pairs):
        return rearrange(pairs, "b (n bits) value -> b n (bits value)", bits=self.bits)

    def _joined(self, tokens):
        return rearrange(tokens, "b n bits -> b (n bits)").astype(jnp.int32)

    def _mean(self, values):
        return reduce(values, "b (n bits) -> b n", "mean", bits=self.bits)
