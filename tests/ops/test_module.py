"""Parameters of the library's modules are looked up, and their shapes compared."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError

from mvar_jax.ops.module import Conv, Dense, GroupNorm, LayerNorm, Module

LAYERS = {
    "conv": (Conv(3, (3, 3)), nn.Conv(3, (3, 3))),
    "dense": (Dense(3), nn.Dense(3)),
    "group norm": (GroupNorm(2), nn.GroupNorm(2)),
    "layer norm": (LayerNorm(), nn.LayerNorm()),
}


class Scaled(Module):
    start: nn.initializers.Initializer
    width: int = 2

    @nn.compact
    def __call__(self, x):
        return x * self.param("scale", self.start, (self.width,))


def test_an_initializer_is_called_in_init_alone():
    calls = []

    def start(key, shape, dtype=jnp.float32):
        calls.append(shape)
        return jnp.ones(shape, dtype)

    module, x = Scaled(start), jnp.ones(2)
    params = module.init(jax.random.key(0), x)
    assert calls == [(2,)] * len(calls) and calls
    calls.clear()
    assert module.apply(params, x).tolist() == [1, 1] and not calls


def test_another_shape_is_refused_and_a_missing_parameter_named():
    start, x = nn.initializers.ones, jnp.ones(())
    params = Scaled(start).init(jax.random.key(0), x)
    with pytest.raises(ScopeParamShapeError, match=r'"scale".*\(3,\).*\(2,\)'):
        Scaled(start, width=3).apply(params, x)
    with pytest.raises(ScopeParamNotFoundError, match='"scale"'):
        Scaled(start).apply({"params": {"other": x}}, x)


@pytest.mark.parametrize("ours, flax", LAYERS.values(), ids=LAYERS)
def test_layers_are_those_of_flax(ours, flax):
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 6))
    params = ours.init(jax.random.key(0), x)
    expected = flax.init(jax.random.key(0), x)
    assert jax.tree.all(jax.tree.map(lambda a, b: jnp.array_equal(a, b), params, expected))
    assert jnp.array_equal(ours.apply(params, x), flax.apply(params, x))
