"""The Gumbel noise that explains a draw: noise under which the argmax is what was drawn."""

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, Int

MARGIN = 0.01  # nats by which the drawn index leads: programs and devices round logits differently


def argmax_posterior(
    logits: Float[Array, "batch n vocab"],
    noise: Float[Array, "batch n vocab"],
    drawn: Int[Array, "batch n"],
) -> Float[Array, "batch n vocab"]:
    """Gumbel noise given that `argmax(logits + noise)` is `drawn`, from any such noise.

    The largest of the sums is a Gumbel variable M at logsumexp(logits), whichever index has it.
    The others are Gumbel variables at their logits, truncated to below M (Maddison, Tarlow and
    Minka 2014, arXiv 1411.0030, section 3): noise g becomes -log(exp(-g) + exp(logit - M)). M takes
    the noise of the drawn index itself. All others stay below M by at least `MARGIN`. Logits must
    be finite. The result is float32.
    """
    logits = logits.astype(jnp.float32)
    own = jnp.take_along_axis(noise, drawn[..., None], axis=-1)
    largest = jax.nn.logsumexp(logits, axis=-1, keepdims=True) + own
    truncated = -jnp.logaddexp(-noise, logits - largest)
    others = jnp.minimum(truncated, largest - MARGIN - logits)
    is_drawn = jnp.arange(logits.shape[-1]) == drawn[..., None]
    return jnp.where(is_drawn, largest - logits, others)
