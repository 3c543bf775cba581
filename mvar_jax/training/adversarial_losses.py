"""The losses of a discriminator and of what it judges, by the logits of patches."""

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float

SMALLEST_NORM = 1e-4  # added to the norm that is divided by, as in VQGAN


def hinge_loss(
    real: Float[Array, "batch h w"], fake: Float[Array, "batch h w"]
) -> Float[Array, ""]:
    """The discriminator's: half the mean of max(0, 1 - real) plus that of max(0, 1 + fake).

    Lim and Ye, arXiv 1705.02894; halved as in VQGAN.
    """
    return (jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))) / 2


def generator_loss(fake: Float[Array, "batch h w"]) -> Float[Array, ""]:
    """What is lower the more real the discriminator finds reconstructions: minus the mean logit."""
    return -jnp.mean(fake)


def lecam_loss(
    real: Float[Array, "batch h w"],
    fake: Float[Array, "batch h w"],
    *,
    real_average: Float[Array, ""],
    fake_average: Float[Array, ""],
) -> Float[Array, ""]:
    """How far logits are beyond the moving average of the other kind (Tseng et al., 2104.03310).

    The mean square of max(0, real - fake_average) plus that of max(0, real_average - fake).
    """
    beyond = jax.nn.relu(real - fake_average), jax.nn.relu(real_average - fake)
    return jnp.mean(beyond[0] ** 2) + jnp.mean(beyond[1] ** 2)


def adaptive_quotient(
    closeness: Float[Array, "..."], generator: Float[Array, "..."], clamp: tuple[float, float]
) -> Float[Array, ""]:
    """The norm of one gradient over that of another, within `clamp`.

    Of closeness to the image and of the generator's loss, both at the decoder's last layer: the
    factor under which the second pulls there as strongly as the first (Esser et al., VQGAN, arXiv
    2012.09841, equation 7).
    """
    norms = [jnp.sqrt(jnp.sum(jnp.square(gradient))) for gradient in (closeness, generator)]
    return jnp.clip(norms[0] / (norms[1] + SMALLEST_NORM), *clamp)
