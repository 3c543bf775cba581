"""The token space of a vocabulary: loss, filters and sampling of categorical tokens."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int, Key
from mvar_jax.ops.argmax_posterior import argmax_posterior
from mvar_jax.ops.logits import filter_logits
from mvar_jax.ops.noise import token_gumbel


@dataclass(frozen=True)
class CategoricalTokens:
    """Tokens are indices into one vocabulary. Hashable, so static under jit."""

    vocabulary: int

    @property
    def logits(self) -> int:
        """Number of logits per token: one per code."""
        return self.vocabulary

    def count(self, tokens: Int[Array, "batch n"]) -> Int[Array, "1 vocab"]:
        """How often every code occurs, int32."""
        return jnp.bincount(tokens.reshape(-1), length=self.vocabulary)[None]

    def usage(self, counts: Int[Array, "1 vocab"]) -> Float[Array, ""]:
        """The codes that occur, as a share of how many could: all, or one per token if fewer."""
        most = jnp.minimum(self.vocabulary, jnp.sum(counts))
        return jnp.sum(counts > 0) / most

    def accuracy(
        self, logits: Float[Array, "batch n vocab"], targets: Int[Array, "batch n"]
    ) -> Float[Array, "batch n"]:
        """1 for every token whose logit is the largest, else 0, float32."""
        return (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)

    def loss(
        self,
        logits: Float[Array, "batch n vocab"],
        targets: Int[Array, "batch n"],
        smoothing: Float[Array, ""] | float = 0.0,
    ) -> Float[Array, "batch n"]:
        """Cross-entropy of every token in nats, float32.

        `smoothing` is the share of the target's probability that is spread evenly over the
        vocabulary.
        """
        log_probabilities = self.log_probabilities(logits)
        chosen = jnp.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
        return -(1 - smoothing) * chosen - smoothing * jnp.mean(log_probabilities, axis=-1)

    def log_probabilities(
        self, logits: Float[Array, "batch n vocab"]
    ) -> Float[Array, "batch n vocab"]:
        """The logarithms of the probabilities of all codes, float32."""
        return jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)

    def noise(
        self, keys: Key[Array, "batch"], scale: int, tokens: int
    ) -> Float[Array, "batch n vocab"]:
        """Gumbel noise for drawing the `tokens` tokens of one scale, from the images' keys."""
        return token_gumbel(keys, scale, tokens, self.vocabulary)

    def filter(
        self,
        logits: Float[Array, "batch n vocab"],
        top_k: Int[Array, ""] | int,
        top_p: Float[Array, ""] | float,
        spared: Int[Array, "batch n"] | None = None,
    ) -> Float[Array, "batch n vocab"]:
        """Sets to -inf the logits that top-k and then top-p remove (`ops.logits.filter_logits`).

        Those of the tokens `spared` stay as they are.
        """
        kept = filter_logits(logits, top_k, top_p)
        if spared is None:
            return kept
        return jnp.where(jnp.arange(self.vocabulary) == spared[..., None], logits, kept)

    def posterior(
        self,
        logits: Float[Array, "batch n vocab"],
        noise: Float[Array, "batch n vocab"],
        tokens: Int[Array, "batch n"],
    ) -> Float[Array, "batch n vocab"]:
        """Noise given that `tokens` are drawn with it (`ops.argmax_posterior`), from any noise."""
        return argmax_posterior(logits, noise, tokens)

    def sample(
        self, logits: Float[Array, "batch n vocab"], noise: Float[Array, "batch n vocab"]
    ) -> Int[Array, "batch n"]:
        """Draws every token from the softmax of its logits, by the Gumbel-max trick."""
        return jnp.argmax(logits + noise, axis=-1).astype(jnp.int32)

    def mixture(
        self,
        logits: Float[Array, "batch n vocab"],
        noise: Float[Array, "batch n vocab"],
        progress: float,
    ) -> Float[Array, "batch n vocab"]:
        """Weights of a soft mixture of codes instead of one token: a Gumbel softmax.

        `progress` goes from 0 at the first scale to 1 at the last; logits are multiplied by
        1 + progress and the temperature falls from 0.27 to 0.0135 (VAR's `more_smooth`).
        """
        temperature = max(0.27 * (1 - 0.95 * progress), 0.005)
        return jax.nn.softmax((logits * (1 + progress) + noise) / temperature, axis=-1)
