"""The losses of the tokenizer and of the trunk, and their metrics."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float
from mvar_jax.config import TokenizerLossConfig
from mvar_jax.ops.fidelity import psnr
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import Tokenizer, Tokens

Metrics = dict[str, Array]
Distance = Callable[[Array, Array], Float[Array, "batch"]]
"""LPIPS of every pair of two batches of images in [-1, 1]."""

SQUARED_ERROR = TokenizerLossConfig()


def trunk_loss(
    logits: Float[Array, "batch total logits"],
    targets: Tokens,
    tokenizer: Tokenizer,
    smoothing: Float[Array, ""] | float = 0.0,
    schedule: ScaleSchedule | None = None,
    scale_weights: str = "uniform",
) -> tuple[Float[Array, ""], Metrics]:
    """Mean cross-entropy in nats over all positions of all scales and samples, and metrics.

    With the `scale_weights` "area" the mean is weighted by `area_weights`.

    The metrics are float32 scalars: `loss`, `accuracy` (share of tokens whose logit is largest,
    from 0 to 1), both per scale as `loss_scale_1` and so on, from the coarsest, and those of the
    last scale also as `loss_tail` and `accuracy_tail` (VAR, arXiv 2404.02905, section 3).
    """
    schedule = schedule or tokenizer.schedule
    space, slices = tokenizer.token_space, schedule.slices
    losses = space.loss(logits, targets, smoothing)
    right = space.accuracy(logits, targets)
    loss = jnp.mean(losses)
    if scale_weights == "area":
        loss = jnp.mean(losses @ jnp.asarray(area_weights(schedule), losses.dtype))
    metrics = {"loss": loss, "accuracy": jnp.mean(right)}
    for name, values in (("loss", losses), ("accuracy", right)):
        scales = [jnp.mean(values[:, own]) for own in slices]
        metrics |= {f"{name}_scale_{i}": mean for i, mean in enumerate(scales, start=1)}
        metrics[f"{name}_tail"] = scales[-1]
    return loss, metrics


def area_weights(schedule: ScaleSchedule) -> np.ndarray:
    """The weight of every token in Infinity's loss, float64 `[total]`; they add up to 1.

    A scale's tokens weigh the square root of the last scale's area divided by its own.
    """
    lengths = np.array(schedule.lengths)
    weights = np.repeat(np.sqrt(lengths[-1] / lengths), lengths)
    return weights / weights.sum()


def tokenizer_loss(
    images: Float[Array, "batch height width channels"],
    reconstruction: Float[Array, "batch height width channels"],
    vq_loss: Float[Array, ""],
    config: TokenizerLossConfig = SQUARED_ERROR,
    distance: Distance | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """The distance of the reconstruction from its image plus the quantizer's loss, and metrics.

    Images are in [-1, 1]. The metrics are float32 scalars: `loss`, the `vq_loss` in it, `psnr`,
    the mean over images in dB of the reconstruction clipped to [-1, 1], and those of `closeness`.
    """
    distances, metrics = closeness(images, reconstruction, config, distance)
    loss = distances + vq_loss
    return loss, {
        "loss": loss,
        **metrics,
        "vq_loss": vq_loss,
        "psnr": jnp.mean(psnr(images, jnp.clip(reconstruction, -1, 1))),
    }


def closeness(
    images: Float[Array, "batch height width channels"],
    reconstruction: Float[Array, "batch height width channels"],
    config: TokenizerLossConfig,
    distance: Distance | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """The weighted sum of all distances of reconstructions from their images, and metrics.

    `distance` is LPIPS, needed where the config weighs it. The metrics are the distances by
    themselves, float32 means: `reconstruction_loss`, the squared error, and, where they are in the
    sum, `l1`, the absolute error, and `lpips`.
    """
    metrics = {"reconstruction_loss": jnp.mean((reconstruction - images) ** 2)}
    terms = [(config.l2, metrics["reconstruction_loss"])]
    if config.l1:
        metrics["l1"] = jnp.mean(jnp.abs(reconstruction - images))
        terms.append((config.l1, metrics["l1"]))
    if config.lpips:
        assert distance is not None
        metrics["lpips"] = jnp.mean(distance(images, reconstruction))
        terms.append((config.lpips, metrics["lpips"]))
    return jnp.asarray(sum(weight * term for weight, term in terms)), metrics
