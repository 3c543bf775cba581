"""Random numbers that depend on the image's key, the scale and the position, and nothing else.

Keys carry the generator with them, and every draw here names its dtype and range, so that no
setting of JAX (`jax_default_prng_impl`, `jax_threefry_partitionable`, `jax_enable_x64`,
`jax_high_dynamic_range_gumbel`) changes what is drawn.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.extend.random
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, HostArray, Int, Key, UInt


def _partitionable(function):
    """Threefry in the form whose numbers do not depend on how many are drawn at once."""

    def pinned(*arguments):
        with jax.threefry_partitionable(True):
            return function(*arguments)

    return pinned


_THREEFRY = jax.extend.random.threefry_prng_impl
# Threefry-2x32 (Salmon et al. 2011), JAX's default generator, in the form that JAX uses by default.
GENERATOR = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=_THREEFRY.seed,
    split=_partitionable(_THREEFRY.split),
    random_bits=_partitionable(_THREEFRY.random_bits),
    fold_in=_THREEFRY.fold_in,
    name="threefry2x32_partitionable",
    tag="fry",
)


def make_key(seed: int | UInt[HostArray, ""]) -> Key[Array, ""]:
    """The key of a seed from 0 to 2**32 - 1, with `GENERATOR`."""
    return jax.random.key(seed, impl=GENERATOR)


def image_keys(
    seed: int | UInt[HostArray, ""], numbers: Int[HostArray, "batch"] | UInt[HostArray, "batch"]
) -> Key[Array, "batch"]:
    """A key per image, from the seed and the image's number only."""
    return jax.vmap(partial(jax.random.fold_in, make_key(seed)))(jnp.asarray(numbers))


def token_gumbel(
    keys: Key[Array, "batch"], scale: int, tokens: int, vocabulary: int
) -> Float[Array, "batch n vocab"]:
    """Standard Gumbel noise for every image, token of the scale, and code, float32.

    Each image's key is folded with the scale and the token's row-major position, so a token's
    noise is the same in any batch, on any number of devices and in any program. It is
    -log(-log(u)) with 23 random bits in u, between -4.47 and 15.94. A token of probability p is
    therefore drawn with probability 2^-23 / (exp(2^-23 / p) - 1): 0.6% less often than it should
    be at p = 1e-5, 6% at 1e-6, 48% at 1e-7, and never in practice at 1e-8.
    """

    def draw(key):
        return jax.random.gumbel(key, (vocabulary,), jnp.float32, mode="low")

    return _per_token(draw, keys, scale, tokens)


def token_uniform(
    keys: Key[Array, "batch"], scale: int, tokens: int, draws: int
) -> Float[Array, "batch n draws"]:
    """Numbers uniform in [0, 1) for every image and token of the scale, float32.

    They belong to the image's key, the scale and the position, like those of `token_gumbel`.
    """
    return _per_token(
        lambda key: jax.random.uniform(key, (draws,), jnp.float32), keys, scale, tokens
    )


def _per_token(draw: Callable[[Array], Array], keys: Array, scale: int, tokens: int) -> Array:
    """What `draw` makes of the key of every image and token of the scale."""

    def per_image(key):
        scale_key = jax.random.fold_in(key, scale)
        return jax.vmap(lambda position: draw(jax.random.fold_in(scale_key, position)))(
            jnp.arange(tokens)
        )

    return jax.vmap(per_image)(keys)


def uniform_per_image(keys: Key[Array, "batch"]) -> Float[Array, "batch"]:
    """One float32 number per image, uniform in [0, 1)."""
    return jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))(keys)


def fold_each(keys: Key[Array, "batch"], number: int | Int[Array, ""]) -> Key[Array, "batch"]:
    """Every image's key, folded with the same number."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
