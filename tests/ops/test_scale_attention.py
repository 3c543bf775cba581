"""Attention scale by scale equals dense attention under the official masks, in all forms."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops._xla_scale_attention import _groups, _mask
from mvar_jax.ops.scale_attention import SCALE_ATTENTION, scale_attention
from mvar_jax.scales import VAR_256, ScaleSchedule
from tests.ops.agreement import ImplementationsAgree

SCHEDULE = ScaleSchedule(((1, 1), (1, 2), (2, 3)))
SCALE = 0.3
CASES = {
    f"{name}, {reach}, {'normalised' if normalised else 'as projected'}": (sizes, reach, normalised)
    for (name, sizes), reach, normalised in product(
        {
            "one block": ((1, 1), (2, 2), (3, 3)),
            "scales across blocks": ((1, 1), (3, 5), (8, 11), (9, 12)),
        }.items(),
        ("scale", "history"),
        (True, False),
    )
}


def dense_attention(query, key, value, reach):
    """The whole matrix, what a token may not see masked away."""
    scales = np.repeat(np.arange(len(SCHEDULE)), SCHEDULE.lengths)
    own, other = scales[:, None], scales[None]
    seen = own == other if reach == "scale" else own >= other
    logits = SCALE * jnp.einsum("bhnd,bhmd->bhnm", query, key)
    weights = jax.nn.softmax(jnp.where(seen, logits, -jnp.inf), axis=-1)
    return jnp.einsum("bhnm,bhmd->bhnd", weights, value)


def value_and_gradients(function, arrays):
    def loss(arrays):
        mixed = function(*arrays)
        return jnp.sum(jnp.sin(mixed)), mixed

    (_, mixed), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(arrays)
    return mixed, gradients


@pytest.mark.parametrize("tokens_of_group", [1, 3, 9])
@pytest.mark.parametrize("reach", ["scale", "history"])
def test_equals_masked_dense_attention(reach, tokens_of_group, monkeypatch):
    """Every scale in a group of its own, the first two in one, and all three."""
    monkeypatch.setattr("mvar_jax.ops._xla_scale_attention.TOKENS_OF_GROUP", tokens_of_group)

    def ours(query, key, value):
        rest = {"slices": SCHEDULE.slices, "softmax_scale": SCALE, "reach": reach}
        return scale_attention(query, key, value, **rest, implementation="xla")

    with jax.enable_x64(True):
        shape = (3, 2, 2, SCHEDULE.total, 4)
        arrays = tuple(jnp.asarray(np.random.default_rng(0).standard_normal(shape)))
        actual = value_and_gradients(ours, arrays)
        expected = value_and_gradients(lambda *arrays: dense_attention(*arrays, reach), arrays)
        assert actual[0].dtype == jnp.float64
        for left, right in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
            np.testing.assert_allclose(left, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("reach", "most"), [("history", 0.03), ("scale", 0.14)])
def test_little_is_computed_only_to_be_masked_away(reach, most):
    """Of the pairs of a query and a key in the products for VAR's scales of 256x256."""
    masks = [_mask(group, reach) for group in _groups(VAR_256.slices)]
    masked = 1 - sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    assert 0 < masked < most and len(masks) == 4


class TestImplementations(ImplementationsAgree):
    op = SCALE_ATTENTION
    tolerance = 3e-6
    cases = CASES

    def arrays(self, case):
        sizes, _, normalised = case
        keys = jax.random.split(jax.random.key(0), 4)
        shape = (2, 2, ScaleSchedule(sizes).total, 64)
        vectors = [jax.random.normal(key, shape) for key in keys[:3]]
        return (*vectors, jax.random.normal(keys[3], (2,)) if normalised else None)

    def compute(self, case, arrays, implementation):
        sizes, reach, _ = case
        *vectors, log_scale = arrays
        return scale_attention(
            *vectors,
            slices=ScaleSchedule(sizes).slices,
            softmax_scale=SCALE,
            reach=reach,
            log_scale=log_scale,
            implementation=implementation,
        )
