"""Kernels that sampling holds in 16 bits: which ones they are, and that no bit depends on it."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.array_types import path_name
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.models.checksum import checksum
from mvar_jax.models.narrowing import narrowed
from mvar_jax.models.parameters import parameter
from mvar_jax.ops.noise import image_keys
from mvar_jax.sampling import Filters, Request, generate_scales
from mvar_jax.sampling.stored_name import StoredName
from tests.sampling.kinds import asked_of
from tests.sampling.test_model import tiny_model
from tests.sampling.test_text_policies import tiny_text_model

KINDS = ("VAR", "mixture", "shared", "Infinity")
POLICIES = {"hack+int8": {}, "scalekv": {"grid": 1}, "sliding_window": {}}


@cache
def model_of(kind):
    """A tiny model that computes in bfloat16; its random weights are of 24 bits."""
    if kind == "Infinity":
        return tiny_text_model(compute_dtype="bfloat16")
    pattern = ("history",) if kind == "VAR" else ("scale+ssm", "history")
    if kind == "shared":  # needs blocks alike
        return tiny_model(("history+ssm",), shared_modulation=True, compute_dtype="bfloat16")
    return tiny_model(pattern, compute_dtype="bfloat16")


@cache
def program_of(kind):
    """From a trunk's parameters to the guided logits and tokens of all scales."""
    model = model_of(kind)
    condition = model.condition(asked_of(kind))
    keys, filters = image_keys(3, np.arange(2)), Filters.of(model.config.sampling, 3)

    @jax.jit
    def draw(trunk):
        weights = replace(model.weights, trunk=trunk)
        steps = generate_scales(model.sampler, weights, Request(condition, keys, filters))
        return [(step.logits, step.tokens, step.running) for step in steps]

    return draw


@cache
def drawn_of(kind):
    return program_of(kind)(model_of(kind).weights.trunk)


def differ(one, other):
    """Whether any bit of two trees does."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(np.asarray(a).tobytes() != np.asarray(b).tobytes() for a, b in pairs)


def rounded(trunk, chosen):
    """The parameters, in float32, with the values of those that are chosen by name in 16 bits."""

    def own(path, leaf):
        return leaf.astype("bfloat16").astype(leaf.dtype) if chosen(path_name(path)) else leaf

    return jax.tree_util.tree_map_with_path(own, trunk)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_drawn_depends_on_narrowing(kind):
    trunk = model_of(kind).weights.trunk
    held = narrowed(trunk, "bfloat16")
    halved = {
        path_name(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(held)
        if leaf.dtype == jnp.bfloat16
    }
    assert halved and all(parameter(name).cast for name in halved)
    assert differ(trunk, jax.tree.map(lambda leaf: leaf.astype("float32"), held))
    assert not differ(drawn_of(kind), program_of(kind)(held))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kernel_of_a_projection_is_cast_or_is_computed_in_float32(kind):
    """Rounding any other kernel changes what is drawn, so that none is held wide in vain."""
    trunk, draw, whole = model_of(kind).weights.trunk, program_of(kind), drawn_of(kind)
    assert not differ(whole, draw(rounded(trunk, lambda name: parameter(name).cast)))
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(trunk)]
    kernels = [name for name in names if name.endswith("/kernel") and "/conv_" not in name]
    wide = [name for name in kernels if not parameter(name).cast]
    assert {"head/kernel", "head_modulation/kernel", "word_embedding/kernel"} <= {*wide}
    for name in wide:
        assert differ(whole, draw(rounded(trunk, name.__eq__))), name


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_draws_the_same_of_narrowed_kernels(policy):
    model = model_of("VAR")
    trunk, weights = model.weights.trunk, model.weights
    weights = replace(weights, trunk=narrowed(trunk, "bfloat16"))
    stored = StoredName(
        weights.trunk,
        lambda: trunk,
        dtype="bfloat16",
        place=Path("run"),
        mesh=jax.sharding.get_mesh(),
    )
    held = replace(model, weights=weights, stored=stored)
    profile = made_up_profile(model.trunk.schedule, model.trunk.attention_shape)
    variance = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)  # heads of the first layer change
    profile = replace(profile, checksum=checksum(trunk), head_variance=variance)
    settings = {"budget": 5, "profile": profile, **POLICIES[policy]}
    small = [each.compressed(policy, **settings) for each in (model, held)]
    order = small[1].weights.compression.plan.head_order
    if policy.startswith("hack"):
        assert order == ((1, 0), (0, 1))
    one, other = (each.sample([0, 1], seed=2) for each in small)
    assert not differ((one.images, one.tokens), (other.images, other.tokens))


def test_what_computes_in_float32_is_held_in_it():
    trunk = tiny_model(("history",)).weights.trunk
    held = narrowed(trunk, "float32")
    assert all(map(lambda a, b: a is b, jax.tree.leaves(trunk), jax.tree.leaves(held)))
    again = narrowed(narrowed(trunk, "bfloat16"), "float32")  # nothing is widened
    assert again["blocks_0"]["ffn"]["up"]["kernel"].dtype == jnp.bfloat16


def test_an_unknown_parameter_is_not_narrowed_silently():
    with pytest.raises(ValueError, match="new/kernel matches 0 rows"):
        narrowed({"new": {"kernel": jnp.zeros(2)}}, "bfloat16")
