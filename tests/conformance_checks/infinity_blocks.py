"""The parts of a block of Infinity, all scales at once and scale by scale."""

import re
from functools import partial
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.cache import AttentionShape, LayerMemory, prepare_compression
from mvar_jax.config import position_grid
from mvar_jax.models.block import Block
from mvar_jax.models.conditioner import Embedded, Text
from mvar_jax.models.context import ScaleContext
from mvar_jax.ops.rotary import rotary_angles
from mvar_jax.scales import ScaleSchedule
from tests.conformance_checks.infinity import Model, with_times
from tests.infinity_reference import InfinityFile

GIVEN = re.compile(r"x|cond|kv|cu_seqlens|scale_mul_override|tokens_first_call")
TEXT_LENGTHS = (4, 6)  # of the texts that are pooled


class Conditioning(NamedTuple):
    """What the trunk's head needs of a condition."""

    head: jax.Array


def compute(file: InfinityFile) -> dict[str, np.ndarray]:
    """Every array, by its stored name."""
    model = Model(file)
    pooled = file.normal("input:block_text", (sum(TEXT_LENGTHS), model.about["Ct5"]))
    texts = (
        _text(model, file["kv"], np.diff(file["cu_seqlens"])),
        _text(model, pooled, TEXT_LENGTHS),
    )
    schedule = _covered(model.schedule, file["x"].shape[1])
    params = jax.tree.map(lambda leaf: leaf[0], model.params["blocks_0"])
    params["attention"]["query_scale"] = jnp.asarray(file["scale_mul_override"])
    run = jax.jit(partial(_computed, model.trunk, schedule))
    arrays = run(model.params, params, file["x"], file["cond"], *texts)
    return {"schedule": with_times(file, model.schedule), **arrays}


def _computed(trunk, schedule, params, own, x, vectors, text, pooled) -> dict[str, jax.Array]:
    """Every array but the schedule; `own` are the parameters of the block."""
    config = trunk.config
    block = Block(config, config.kinds[0]).bind({"params": own})
    bound = trunk.bind({"params": params})
    groups = bound.shared_modulation(vectors)
    prepared = block.prepare(Embedded(vectors, text), groups)
    whole = ScaleContext(schedule)
    with mock.patch.object(ScaleContext, "angles", _restarting):
        restarted = _by_scale(block, x, prepared, schedule)
    outputs = _by_scale(block, x, prepared, schedule)
    mixed, cache = _attention_by_scale(block, x, schedule)
    return {
        "gss": groups[:, None],
        "self_attention_masked": block.attention(x, whole)[0],
        "self_attention_cached": mixed,
        "cross_attention": block.cross_attention(x, prepared.text),
        "ffn": block.ffn(x),
        "block_masked": block(x, prepared, whole)[0],
        "block_cached": outputs,
        "block_cached_without_fused_norm_option": restarted,
        "cached_k": cache.groups[0].key,
        "cached_v": cache.groups[0].value,
        "attentive_pool": bound.text.pool(*pooled),
        "head": bound._logits(x, Conditioning(bound.head_modulation(vectors))),
    }


def _covered(schedule, tokens):
    """The first scales, of so many tokens."""
    count = next(k for k, own in enumerate(schedule.slices, start=1) if own.stop == tokens)
    return ScaleSchedule(schedule.sizes[:count])


def _text(model, features, lengths) -> Text:
    texts = model.texts(features, lengths)
    return Text(jnp.asarray(texts.features), jnp.asarray(texts.mask))


def _empty(block, schedule, batch):
    """An empty cache for one scale more, since the last one's keys are not kept."""
    config = block.config
    longer = ScaleSchedule((*schedule.sizes, schedule.last))
    shape = AttentionShape(1, config.heads)
    compression = prepare_compression("full", longer, shape)
    return compression.empty_layer(0, batch, config.head_dim, jnp.dtype(jnp.float32))


def _attention_by_scale(block, x, schedule):
    """The attention, scale by scale, and the cache after the last."""
    cache, outputs = _empty(block, schedule, len(x)), []
    for scale, own in enumerate(schedule.slices):
        mixed, cache = block.attention(x[:, own], ScaleContext(schedule, scale), cache)
        outputs.append(mixed)
    return jnp.concatenate(outputs, axis=1), cache


def _by_scale(block, x, prepared, schedule):
    """The block, scale by scale."""
    memory, outputs = LayerMemory(_empty(block, schedule, len(x)), None), []
    for scale, own in enumerate(schedule.slices):
        mixed, memory = block(x[:, own], prepared, ScaleContext(schedule, scale), memory)
        outputs.append(mixed)
    return jnp.concatenate(outputs, axis=1)


def _restarting(self, dim):
    """The original without its fused norms: every scale has the angles of the first tokens."""
    angles = rotary_angles(self.schedule.sizes, position_grid(self.schedule), dim)
    return tuple(array[: self.schedule.lengths[self.scale]] for array in angles)
