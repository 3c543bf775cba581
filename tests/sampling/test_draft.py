"""Two models on one image: a draft of the first scales, and the model that draws the others."""

import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from mvar_jax.models import ClassLabels
from mvar_jax.sampling import Filters, Forced, Request, generate, generate_scales
from mvar_jax.scales import ScaleSchedule
from tests.sampling.test_generate import numbered
from tests.sampling.test_model import compiled, pixels, tiny_model  # noqa: F401  a fixture
from tests.shared import eight_devices

LABELS = [0, 1, 2]
MVAR, VAR, MIXED = ("scale+ssm",), ("history",), ("scale+ssm", "history")


def assert_same_tokens(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def model():
    return tiny_model(MIXED)


@pytest.fixture(scope="module")
def large():
    """On the same tokenizer, a wider one."""
    return tiny_model(VAR, 32)


@pytest.mark.parametrize(
    ("scales", "settings"),
    [(1, {}), (2, {}), (3, {}), (2, {"smooth": True}), (2, {"guidance_layer": 1})],
)
def test_a_model_that_drafts_for_itself_draws_what_it_draws_alone(model, scales, settings):
    alone = model.sample(LABELS, seed=3, **settings)
    both = model.drafted(model, scales=scales).sample(LABELS, seed=3, **settings)
    assert_same_tokens(both.tokens, alone.tokens)
    np.testing.assert_allclose(both.images, alone.images, atol=1e-5)


def test_a_policy_chooses_among_drafted_scales_what_it_chooses_alone(large):
    small = large.compressed("h2o+int8", budget=2)
    alone = small.sample(LABELS, seed=1)
    both = small.drafted(small, scales=2)
    assert_same_tokens(both.sample(LABELS, seed=1).tokens, alone.tokens)
    later = large.drafted(small, scales=2).compressed("h2o+int8", budget=2)
    assert_same_tokens(later.sample(LABELS, seed=1).tokens, alone.tokens)


def test_a_draft_of_nothing_and_of_everything(model, large):
    nothing, everything = (model.drafted(large, scales=scales) for scales in (0, 3))
    assert_same_tokens(nothing.sample(LABELS, seed=4).tokens, model.sample(LABELS, seed=4).tokens)
    alone = large.sample(LABELS, seed=4)
    assert_same_tokens(everything.sample(LABELS, seed=4).tokens, alone.tokens)
    assert everything.cache_bytes() == large.cache_bytes()


@pytest.mark.parametrize("pattern", [MVAR, MIXED])
def test_the_model_goes_on_from_the_tokens_of_the_draft(large, pattern):
    """As if these were forced on it one by one."""
    small, first = tiny_model(pattern), large.sample(LABELS, seed=4)
    both = small.drafted(large, scales=2).sample(LABELS, seed=4)
    assert_same_tokens(both.tokens[:2], first.tokens[:2])
    assert np.any(both.tokens[2] != first.tokens[2])
    given = [
        Forced(tokens, np.full(tokens.shape, share, np.float32))
        for tokens, share in zip(first.tokens, (1, 1, 0))
    ]
    expected = generate(small.sampler, small.weights, request(small, given))
    assert_same_tokens(both.tokens, expected.tokens)
    np.testing.assert_allclose(both.images, expected.images, atol=1e-5)


def request(model, given=None):
    """What `sample(LABELS, seed=4)` draws, with given tokens."""
    filters = Filters.of(model.config.sampling, 3)
    return Request(ClassLabels(np.array(LABELS, np.int32)), numbered(3, 4), filters, given)


def test_tokens_are_given_to_both_models(model, large):
    both, other = model.drafted(large, scales=2), model.sample(LABELS, seed=9)
    given = [Forced(tokens, np.ones(tokens.shape, np.float32)) for tokens in other.tokens]
    again = generate(both.sampler, both.weights, request(both, given))
    assert_same_tokens(again.tokens, other.tokens)
    np.testing.assert_allclose(again.images, other.images, atol=1e-5)


def test_a_stream_is_the_sample(model, large):
    both = model.drafted(large, scales=2)
    whole, steps = both.sample(LABELS, seed=5), list(both.stream(LABELS, seed=5))
    assert [len(step.tokens) for step in steps] == [1, 2, 3]
    assert_same_tokens(steps[-1].tokens, whole.tokens)
    np.testing.assert_array_equal(pixels(steps[-1].images), pixels(whole.images))


def test_other_settings_and_labels_compile_nothing(model, large, compiled):  # noqa: F811
    both = model.drafted(large, scales=2)
    first = both.sample(LABELS, seed=0)
    before = compiled[0]
    again = both.sample(["owl", 1, 0], 7, guidance=2.0, temperature=0.7, top_k=3)
    assert compiled[0] == before
    assert np.any(again.tokens[2] != first.tokens[2])


def test_what_is_carried_is_of_the_model_that_draws_next(model, large):
    both = model.drafted(large, scales=2)
    own, draft, mixed = (memories(each) for each in (model, large, both))
    assert mixed == [draft[0], own[1], own[2]]
    assert both.cache_bytes() == (large.cache_bytes()[0], *model.cache_bytes()[1:])
    assert both.carried_state_bytes() == model.carried_state_bytes()
    assert "2 scales drafted" in repr(both)


def memories(model):
    """The shapes of what is carried after every scale."""

    def run(weights):
        steps = generate_scales(model.sampler, weights, request(model))
        return [step.memory for step in steps]

    return [jax.tree.map(np.shape, memory) for memory in jax.eval_shape(run, model.weights)]


SHARDED = """
import jax, numpy as np
from dataclasses import replace
from jax.sharding import NamedSharding, PartitionSpec
from mvar_jax.models import ClassLabels
from mvar_jax.sampling import Filters, Request, generate
from tests.sampling.test_draft import MIXED, VAR, numbered, tiny_model
both = tiny_model(MIXED).drafted(tiny_model(VAR, 32), scales=2)
labels, keys = np.arange(8, dtype=np.int32) % 3, numbered(8)
filters = Filters.of(both.config.sampling, 3)
alone = generate(both.sampler, both.weights, Request(ClassLabels(labels), keys, filters))
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec("data"))
weights = jax.device_put(both.weights, NamedSharding(mesh, PartitionSpec()))
labels, keys = jax.device_put((labels, keys), split)
spread = generate(both.sampler, weights, Request(ClassLabels(labels), keys, filters))
assert len(spread.images.sharding.device_set) == 8, spread.images.sharding
for one, other in zip(alone.tokens, spread.tokens):
    np.testing.assert_array_equal(one, other)
np.testing.assert_allclose(alone.images, spread.images, atol=1e-4)
print("equal on", jax.device_count())
"""


def test_eight_devices_draw_the_same(pytestconfig):
    result = subprocess.run(
        [sys.executable, "-c", SHARDED],
        cwd=pytestconfig.rootpath,
        env=eight_devices(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "equal on 8", result.stderr[-2000:]


def test_drafts_that_do_not_fit_are_refused(model, large):
    both = model.drafted(large, scales=1)
    for small, draft in ((both, large), (model, both)):
        with pytest.raises(ValueError, match="has a draft already; start from its original"):
            small.drafted(draft, scales=1)
    for scales in (-1, 4, True):
        with pytest.raises(ValueError, match=r"draft: scales: got .* whole number from 0 to 3"):
            model.drafted(large, scales=scales)
    renamed = replace(large, class_names=("cat", "owl", "dog"))
    with pytest.raises(ValueError, match="classes with other names"):
        model.drafted(renamed, scales=1)
    trunk = replace(large.trunk, config=replace(large.trunk.config, num_classes=4))
    more = replace(large, sampler=replace(large.sampler, trunk=trunk))
    with pytest.raises(ValueError, match="got a model of 4 classes, expected one of 3 classes"):
        model.drafted(more, scales=1)
    coarse = replace(large.sampler, schedule=ScaleSchedule(((1, 1), (1, 2))))
    with pytest.raises(ValueError, match="of the scales 1x1, 1x2, expected 1x1, 1x2, 2x3"):
        model.drafted(replace(large, sampler=coarse), scales=1)
    tokenizer = jax.tree.map(lambda array: array + 1, large.weights.tokenizer)
    foreign = replace(large, weights=replace(large.weights, tokenizer=tokenizer))
    with pytest.raises(ValueError, match="of another tokenizer"):
        model.drafted(foreign, scales=1)
