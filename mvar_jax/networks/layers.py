"""Convolutions of the frozen networks that images are measured by, as functions of parameters.

They compute in true float32 on every device, unless asked for less: features of bfloat16 or TF32
products would shift what is measured.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float, Params

Padding = str | Sequence[tuple[int, int]]
NORM = {"scale", "shift", "mean", "variance"}


def convolve(
    params: Params,
    x: Float[Array, "batch h w _"],
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    precision: jax.lax.Precision = jax.lax.Precision.HIGHEST,
) -> Float[Array, "batch _ _ channels"]:
    """A convolution by `params["kernel"]`, [height, width, in, out], plus `["bias"]`.

    `padding` is "SAME", as TensorFlow pads, "VALID", or the zeros before and after both axes.
    """
    maps = jax.lax.conv_general_dilated(
        x,
        params["kernel"],
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )
    return maps + params["bias"]


def convolve_channels(
    params: Params, x: Float[Array, "batch h w channels"], *, stride: int
) -> Float[Array, "batch _ _ channels"]:
    """A convolution of every channel by itself, padded as TensorFlow does with "SAME".

    The kernel is [side, side, 1, channels]. A sum of shifted maps, which takes a fifth to a
    twentieth of the time of XLA's own convolution in groups on CPUs.
    """
    kernel, side = params["kernel"], params["kernel"].shape[0]
    sizes = [-(-length // stride) for length in x.shape[1:3]]
    missing = [
        max((size - 1) * stride + side - length, 0) for size, length in zip(sizes, x.shape[1:3])
    ]
    edges = [(total // 2, total - total // 2) for total in missing]
    x = jnp.pad(x, ((0, 0), *edges, (0, 0)))
    last = [(size - 1) * stride + 1 for size in sizes]
    shifted = (
        x[:, i : i + last[0] : stride, j : j + last[1] : stride] * kernel[i, j, 0]
        for i in range(side)
        for j in range(side)
    )
    return sum(shifted, start=params["bias"])


def max_pool(
    x: Float[Array, "batch h w channels"], side: int, stride: int, padding: str = "VALID"
) -> Float[Array, "batch _ _ channels"]:
    """The largest value in every window of `side` x `side`."""
    return nn.max_pool(x, (side, side), (stride, stride), padding)


def average_pool(x: Float[Array, "batch h w channels"]) -> Float[Array, "batch h w channels"]:
    """The mean over 3 x 3 pixels around each, of those that exist."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def mean_pool(x: Float[Array, "batch h w channels"]) -> Float[Array, "batch channels"]:
    """The mean over all pixels."""
    return jnp.mean(x, axis=(1, 2))


def fold_norms(params: Params, epsilon: float) -> Params:
    """Parameters with every convolution's batch norm made part of its kernel and bias, float32.

    Where a dict has a `norm` beside its `kernel`, whose running statistics are `mean` and
    `variance`, the kernel is multiplied by scale / sqrt(variance + epsilon) per output channel, in
    float64. The results differ from those of the norm by float32's rounding.
    """
    if "kernel" in params:
        return _fold(params, epsilon) if "norm" in params else params
    return {
        name: fold_norms(value, epsilon) if isinstance(value, dict) else value
        for name, value in params.items()
    }


def _fold(params: Params, epsilon: float) -> Params:
    norm = {name: np.asarray(params["norm"][name], np.float64) for name in NORM}
    factor = norm["scale"] / np.sqrt(norm["variance"] + epsilon)
    kernel = np.asarray(params["kernel"], np.float64) * factor
    bias = norm["shift"] - norm["mean"] * factor
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
