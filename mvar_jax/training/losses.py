"""The losses of the tokenizer and of the trunk, and their metrics."""

import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float
from mvar_jax.ops.fidelity import psnr
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import Tokenizer, Tokens

Metrics = dict[str, Array]


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
) -> tuple[Float[Array, ""], Metrics]:
    """Mean squared error of the reconstruction plus the quantizer's loss, and metrics.

    Images are in [-1, 1]. The metrics are float32 scalars: `loss`, its parts
    `reconstruction_loss` and `vq_loss`, and `psnr`, the mean over images in dB of the
    reconstruction clipped to [-1, 1].
    """
    reconstruction_loss = jnp.mean((reconstruction - images) ** 2)
    loss = reconstruction_loss + vq_loss
    return loss, {
        "loss": loss,
        "reconstruction_loss": reconstruction_loss,
        "vq_loss": vq_loss,
        "psnr": jnp.mean(psnr(images, jnp.clip(reconstruction, -1, 1))),
    }
