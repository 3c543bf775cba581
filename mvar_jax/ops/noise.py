"""Random numbers that depend on an image's own key, the scale and the position, nothing else."""

import jax

from mvar_jax.array_types import Array, Float, Key


def token_gumbel(
    keys: Key[Array, "batch"], scale: int, tokens: int, vocabulary: int
) -> Float[Array, "batch n vocab"]:
    """Standard Gumbel noise for every image, token of the scale, and code.

    Each image's key is folded with the scale and the token's row-major position, so a token's
    noise is the same in any batch, on any number of devices, and whatever is computed around it.
    """

    def per_token(key, position):
        return jax.random.gumbel(jax.random.fold_in(key, position), (vocabulary,))

    def per_image(key):
        scale_key = jax.random.fold_in(key, scale)
        return jax.vmap(per_token, in_axes=(None, 0))(scale_key, jax.numpy.arange(tokens))

    return jax.vmap(per_image)(keys)


def uniform_per_image(keys: Key[Array, "batch"], count: int) -> Float[Array, "batch draws"]:
    """Numbers uniform in [0, 1), float32, that depend on an image's key only."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys)
