"""Bytes of the released models' attention caches by policy, beside what papers report."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from mvar_jax.cache import Compression, memory_bytes, prepare_compression
from mvar_jax.config import Config
from mvar_jax.config.infinity import infinity
from mvar_jax.config.tree import from_config_dict
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.evaluation.programs import MIB
from mvar_jax.models import build_trunk

MODELS = ("2b", "8b")
REPORTED_IMAGES = 8  # at a time, with guidance
HEADER = ("policy", "tokens a head", "of full", "fp32 keys, 8 images", "paper", "ours / paper")


@dataclass(frozen=True)
class Case:
    """A policy in a paper's setting, and the MiB that are reported for 8 images by model.

    Figures for other numbers of images are multiplied up; the papers' GB are 2**30 bytes, as those
    of the full cache show.
    """

    label: str
    policy: str
    settings: dict[str, Any] = field(default_factory=dict)
    reported: dict[str, int | float] = field(default_factory=dict)


def cases(model: str) -> tuple[Case, ...]:
    """The policies of the table, for a released model."""
    released = {"budgets": f"infinity-{model}", "scoring": "official"}
    return (
        Case("full", "full", {}, {"2b": 38550, "8b": 84328}),  # as ScaleKV's paper has it
        Case("full, 8 bits", "full+int8"),
        Case("ScaleKV 10%, as released", "scalekv", released, {"2b": 3900, "8b": 8531}),
        Case("HACK 70%", "hack", {"ratio": 0.7}),
        # 1.69 GB for an image
        Case("HACK++ 30% / 10%", "hackpp", {"ratio": 0.9}, {"8b": 8 * 1.69 * 1024}),
        # 2.1 GB where the full cache takes 42, that is for four images
        Case("HeatKV 5%", "heatkv", {"share": 0.05}, {"8b": 2 * 2.1 * 1024}),
        Case("HeatKV 10%", "heatkv", {"share": 0.1}),
        Case("AMS-KV 15.2%", "ams_kv", {"budget": round(0.152 * 6425)}),
    )


def allocated_bytes(
    compression: Compression, rows: int, dim: int, dtype: jnp.dtype
) -> tuple[int, ...]:
    """Bytes of all layers' arrays after every scale, for `rows` rows, of which none is allocated.

    Shapes and dtypes are those of the arrays that attention returns, by `jax.eval_shape`. Layers of
    one plan are traced once.
    """
    layers = compression.plan.layers

    @cache
    def of(plan):
        return _layer_bytes(compression, layers.index(plan), rows, dim, dtype)

    return tuple(map(sum, zip(*map(of, layers))))


def _layer_bytes(compression, layer, rows, dim, dtype):
    heads = sum(group.heads for group in compression.plan.layers[layer])

    def run():
        memory, kept = compression.empty_layer(layer, rows, dim, dtype), []
        for scale, length in enumerate(compression.schedule.lengths):
            token = jnp.zeros((rows, heads, length, dim), dtype)
            _, memory = memory.attend(token, token, token, token, 1.0, scale)
            kept.append(memory.groups)
        return kept

    return [memory_bytes(groups) for groups in jax.eval_shape(run)]


def size_rows(model: str, images: tuple[int, ...]) -> Iterator[tuple[str, ...]]:
    """The cells of the table for a released model, a row a policy: see `size_header`.

    Bytes are the most that are carried between scales, with guidance. Columns of MiB are of our
    arrays; "fp32 keys" is what the papers count for 8 images, float32 keys and 16-bit values. The
    profile is made up: it says which layers and heads keep more, and hardly how much they keep.
    """
    config = from_config_dict(infinity(model), Config)
    trunk, schedule, dim = build_trunk(config), config.tokenizer.schedule, config.model.head_dim
    shape, dtype = trunk.attention_shape, trunk.dtype
    profile = made_up_profile(schedule, shape)
    whole = None
    for case in cases(model):
        compression = prepare_compression(
            case.policy, schedule, shape, profile=profile, **case.settings
        )
        one = max(allocated_bytes(compression, 2, dim, dtype)) / MIB
        whole = whole or one
        tokens = max(compression.plan.kept)
        counted = tokens * 2 * REPORTED_IMAGES * dim * (4 + 2) / MIB
        reported = case.reported.get(model)
        share = "" if reported is None else f"{one * REPORTED_IMAGES / reported:.3f}"
        yield (
            case.label,
            *(f"{one * count:,.0f}" for count in images),
            f"{tokens / (shape.layers * shape.heads):,.0f}",
            f"{one / whole:.1%}",
            f"{counted:,.0f}",
            "" if reported is None else f"{reported:,.0f}",
            share,
        )


def size_header(images: tuple[int, ...]) -> tuple[str, ...]:
    """The names of the columns."""
    counts = (f"MiB, {count} image{'s' if count > 1 else ''}" for count in images)
    return (HEADER[0], *counts, *HEADER[1:])
