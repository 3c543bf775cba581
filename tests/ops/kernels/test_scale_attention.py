"""The attention kernel, interpreted, against the plain form: values and gradients."""

import jax
import numpy as np
import pytest
from einops import rearrange

from mvar_jax.ops import attention as plain
from mvar_jax.ops.kernels import scale_attention as kernel
from mvar_jax.scales import ScaleSchedule

SCHEDULES = {
    "one block": ScaleSchedule.squares(1, 2, 3),
    "scales across blocks": ScaleSchedule(((1, 1), (3, 5), (8, 11), (9, 12))),
}
HEADS, SCALE = 2, 0.3


def plain_attention(query, key, value, log_scale, schedule, reach):
    query, key, value = (
        rearrange(array, "b n (h d) -> b h n d", h=HEADS) for array in (query, key, value)
    )
    if log_scale is not None:
        query, key = plain.cosine_normalize(query, key, log_scale)
    mixed = plain.scale_attention(query, key, value, schedule.slices, SCALE, reach)
    return rearrange(mixed, "b h n d -> b n (h d)")


def kernel_attention(query, key, value, log_scale, schedule, reach):
    slices = schedule.slices
    return kernel.scale_attention(query, key, value, slices, HEADS, SCALE, reach, log_scale)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("reach", ["scale", "history"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_kernel_is_the_plain_form(schedule, reach, normalize):
    keys = jax.random.split(jax.random.key(0), 5)
    query, key, value, gradient = (
        jax.random.normal(key, (2, schedule.total, 128)) for key in keys[:4]
    )
    log_scale = jax.random.normal(keys[4], (HEADS,)) if normalize else None
    inputs = (query, key, value, log_scale)
    results = []
    for form in (plain_attention, kernel_attention):
        mixed, backward = jax.vjp(lambda *a, form=form: form(*a, schedule, reach), *inputs)
        results.append((mixed, backward(gradient)))
    for expected, got in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=3e-6 * np.abs(expected).max())


def test_a_block_reads_only_keys_that_it_may_see():
    static = kernel._Static(((0, 1), (1, 150), (150, 300)), 2, 64, 1.0, "scale", False)
    blocks = kernel._blocks(static)
    assert [block.queries for block in blocks] == [(0, 128), (128, 256), (256, 300)]
    assert [block.seen for block in blocks] == [(0, 256), (0, 300), (128, 300)]
