"""Finds the configuration of a trunk from the names and shapes of its official tensors."""

import math

import numpy as np

from mvar_jax.checks import check
from mvar_jax.config import ModelConfig, SSMConfig
from mvar_jax.config.infinity import MODEL
from mvar_jax.convert.find_infinity import find_infinity
from mvar_jax.convert.shapes import Shapes
from mvar_jax.models import Trunk
from mvar_jax.scales import ScaleSchedule

PATTERNS = {"mvar": ("scale+ssm",), "var": ("history",), "infinity": MODEL["pattern"]}
HEAD_DIM = 64  # of every official model; needed where no tensor has a row a head


def find_trunk(architecture: str, shapes: Shapes, schedule: ScaleSchedule) -> Trunk:
    """The trunk that has tensors of these names and shapes.

    Heads are counted in `scale_mul_1H11`; a VAR without it has heads of 64 channels, as all
    official ones. Raises ValueError for a tensor that every such model has, and this one not, and
    as `find_infinity` does.
    """
    if architecture == "infinity":
        return find_infinity(shapes, schedule)
    width, code = shapes["word_embed.weight", 2]
    vocabulary, _ = shapes["head.weight", 2]
    classes, _ = shapes["class_emb.weight", 2]
    hidden, _ = shapes["blocks.0.ffn.fc1.weight", 2]
    qk_norm = "blocks.0.attn.scale_mul_1H11" in shapes
    if qk_norm:
        _, heads, _, _ = shapes["blocks.0.attn.scale_mul_1H11", 4]
    else:
        heads = max(1, width // HEAD_DIM)
    config = ModelConfig(
        num_classes=classes - 1,
        depth=shapes.count("blocks."),
        width=width,
        heads=heads,
        pattern=PATTERNS[architecture],
        mlp_ratio=hidden / width,
        qk_norm=qk_norm,
        shared_modulation="shared_ada_lin.1.weight" in shapes,
        ssm=_find_ssm(shapes, width) if architecture == "mvar" else SSMConfig(),
    )
    return Trunk(config, schedule, vocabulary, code)


def _find_ssm(shapes: Shapes, width: int) -> SSMConfig:
    name = "blocks.0.mamba"
    (heads,) = shapes[f"{name}.dt_bias", 1]
    (inner,) = shapes[f"{name}.norm.weight", 1]
    channels, _, kernel = shapes[f"{name}.conv1d.weight", 3]
    check(
        heads > 0 and inner % heads == 0 and inner % width == 0 and (channels - inner) % 2 == 0,
        f"{name} has {heads} heads, {inner} inner and {channels} convolved channels at width "
        f"{width}, which no Mamba-2 layer has",
    )
    return SSMConfig(
        state_size=(channels - inner) // 2,
        conv_size=kernel,
        expand=inner // width,
        head_dim=inner // heads,
    )


def find_schedule(levels: np.ndarray) -> ScaleSchedule:
    """The schedule of square scales in which position i lies in scale `levels[0, i]`.

    Raises ValueError when `lvl_1L` has other values than such a schedule gives.
    """
    levels = levels.reshape(-1)
    numbers, counts = np.unique(levels, return_counts=True)
    sides = tuple(math.isqrt(count) for count in counts.tolist())
    check(
        np.array_equal(numbers, np.arange(len(numbers)))
        and np.array_equal(levels, np.sort(levels))
        and all(side**2 == count for side, count in zip(sides, counts.tolist()))
        and sides == tuple(sorted(sides))
        and sides != (),
        f"its lvl_1L counts {counts.tolist()[:20]} positions in scales {numbers.tolist()[:20]}, "
        "expected squares that grow, for scales 0, 1, 2 and so on in this order",
    )
    return ScaleSchedule.squares(*sides)
