"""Sampling: each image by itself, one program for all settings, filters in the official order."""

import itertools
import subprocess
import sys
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from mvar_jax.cache import prepare_compression
from mvar_jax.config import ModelConfig, SamplingConfig, SSMConfig, TokenizerConfig
from mvar_jax.models import ClassLabels, Trunk, example_inputs
from mvar_jax.ops.noise import image_keys
from mvar_jax.sampling import Filters, Forced, Request, Sampler, Weights, generate, grow
from mvar_jax.sampling.generate import decoded_parts
from mvar_jax.sampling.guidance import guide
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import VQTokenizer
from tests.shared import eight_devices

CLASSES = 3


def tiny_models(pattern=("scale+ssm", "history"), width=16, depth=2, **changes):
    """A sampler of 8x12 pixels with a trunk of `depth` blocks, random parameters.

    The tokenizer is the same for all trunks, whose other settings are `changes`.
    """
    tokenizer = TokenizerConfig(
        image_size=(8, 12),
        scales=((1, 1), (1, 2), (2, 3)),
        vocabulary=16,
        code_channels=4,
        base_channels=8,
        channel_multipliers=(1,),
        blocks_per_level=1,
        stem_stride=4,
        norm_groups=4,
        attention=False,
    )
    model = ModelConfig(
        num_classes=CLASSES,
        depth=depth,
        width=width,
        heads=2,
        pattern=pattern,
        ssm=SSMConfig(state_size=8, head_dim=8),
        **changes,
    )
    trunk = Trunk(model, tokenizer.schedule, tokenizer.vocabulary, tokenizer.code_channels)
    tokenizer = VQTokenizer(tokenizer)
    shapes = {
        "trunk": jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk)),
        "tokenizer": jax.eval_shape(tokenizer.init, jax.random.key(0), jnp.zeros((1, 8, 12, 3))),
    }
    leaves, tree = jax.tree.flatten({name: tree["params"] for name, tree in shapes.items()})
    rng = np.random.default_rng(1)  # not JAX's, whose numbers depend on its settings
    values = [jnp.asarray(0.4 * rng.standard_normal(x.shape, np.float32)) for x in leaves]
    return Sampler(trunk, tokenizer), Weights(**jax.tree.unflatten(tree, values))


@pytest.fixture(scope="module")
def models():
    return tiny_models()


def settings(guidance=1.5, top_k=8, top_p=0.9, temperature=1.0):
    """Filters for the three scales of the tiny models."""
    return Filters.of(SamplingConfig(guidance, top_k, top_p, temperature), 3)


def request(labels, keys, filters=None):
    return Request(ClassLabels(jnp.asarray(labels)), keys, filters or settings())


def sample(models, labels, keys, filters=None, smooth=False, program=generate):
    sampler, weights = models
    return program(replace(sampler, smooth=smooth), weights, request(labels, keys, filters))


def numbered(count, seed=0):
    return image_keys(seed, np.arange(count))


def test_an_image_does_not_depend_on_its_batch(models):
    labels, keys = jnp.array([0, 1, 2, 1, 0], jnp.int32), numbered(5)
    whole = sample(models, labels, keys)
    assert whole.images.shape == (5, 8, 12, 3) and whole.images.dtype == jnp.float32
    for order in ([3], [1, 1, 3, 0, 2, 4, 4]):
        order = jnp.array(order)
        part = sample(models, labels[order], keys[order])
        for actual, expected in zip(part.tokens, whole.tokens):
            np.testing.assert_array_equal(actual, expected[order])
        np.testing.assert_allclose(part.images, whole.images[order], atol=1e-4)


@pytest.mark.parametrize("smooth", [False, True])
def test_growth_ends_in_the_image(models, smooth):
    labels, keys = jnp.array([0, 1], jnp.int32), numbered(2)
    grown = sample(models, labels, keys, smooth=smooth, program=grow)
    assert grown.shape == (3, 2, 8, 12, 3) and grown.dtype == jnp.float32
    whole = sample(models, labels, keys, smooth=smooth)
    np.testing.assert_allclose(grown[-1], whole.images, atol=1e-4)
    assert jnp.any(grown[0] != grown[1]) and jnp.any(grown[1] != grown[2])


def test_labels_and_keys_matter(models):
    keys = numbered(2)
    same = sample(models, jnp.array([1, 1], jnp.int32), jnp.stack([keys[0], keys[0]]))
    np.testing.assert_array_equal(same.images[0], same.images[1])
    by_key = sample(models, jnp.array([1, 1], jnp.int32), keys)
    assert jnp.any(by_key.images[0] != by_key.images[1])
    by_label = sample(models, jnp.array([0, 1], jnp.int32), jnp.stack([keys[0], keys[0]]))
    assert jnp.any(by_label.images[0] != by_label.images[1])


def test_settings_are_traced(models):
    labels, keys = jnp.array([0, 1], jnp.int32), numbered(2)
    results = [
        sample(models, labels, keys, settings(guidance, k, p, temperature)).images
        for guidance, k, p, temperature in (
            (1.5, 8, 0.9, 1.0),
            (4.0, 8, 0.9, 1.0),
            (1.5, 1, 0.9, 1.0),
            (1.5, 0, 0.0, 5.0),
        )
    ]
    compiled = generate._cache_size()
    sample(models, labels, keys, settings(2.5, 3, 0.5, 0.7))
    assert generate._cache_size() == compiled
    assert all(jnp.any(results[0] != other) for other in results[1:])


def test_smooth_mixes_codes(models):
    labels, keys = jnp.array([0, 1], jnp.int32), numbered(2)
    plain, smooth = sample(models, labels, keys), sample(models, labels, keys, smooth=True)
    assert jnp.isfinite(smooth.images).all()
    assert jnp.any(plain.images != smooth.images)


def test_guidance_grows_from_nothing_and_mixes_pairs_of_rows():
    assert Filters.of(SamplingConfig(guidance=4.0), 5).guidance.tolist() == [0, 1, 2, 3, 4]
    assert Filters.of(SamplingConfig(guidance=4.0), 1).guidance.tolist() == [0]
    rows = jnp.arange(4.0)[:, None, None] * jnp.ones((4, 2, 3))
    np.testing.assert_allclose(guide(rows, 2.0)[:, 0, 0], [3 * 0 - 2 * 1, 3 * 2 - 2 * 3])


def test_many_images_are_decoded_in_parts(models, monkeypatch):
    sampler, weights = models
    running = jax.random.normal(jax.random.key(0), (6, 2, 3, 4))
    module = sys.modules[generate.__module__]
    whole = module._decode(sampler, weights, running)
    for pixels, parts in ((6 * 8 * 12, 1), (5 * 8 * 12, 2), (2 * 8 * 12, 3), (1, 6)):
        monkeypatch.setattr(module, "CPU_PIXELS_AT_ONCE", pixels)
        text = str(jax.make_jaxpr(partial(module._decode, sampler))(weights, running))
        assert (f"length={parts}" in text) == (parts > 1) == ("scan" in text)
        images = module._decode(sampler, weights, running)
        np.testing.assert_allclose(images, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "parts"), [(1, 1), (2, 2), (4, 4), (7, 7), (8, 1), (12, 1), (16, 1), (60, 3)]
)
def test_tpus_decode_one_image_or_many(models, images, parts, monkeypatch):
    """At most 20 at once; of less than 8 the compiler would move four times the bytes."""
    monkeypatch.setattr(sys.modules[generate.__module__], "PIXELS_AT_ONCE", 20 * 8 * 12)
    device = jax.sharding.AbstractDevice("TPU v5 lite", num_cores=1, platform="tpu")
    with jax.sharding.use_abstract_mesh(
        AbstractMesh((1, 1, 1), ("data", "fsdp", "tensor"), abstract_device=device)
    ):
        assert decoded_parts(models[0], images) == parts


SHARDED = """
import sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from mvar_jax.config import MeshConfig
from mvar_jax.mesh.sharding import make_mesh
from tests.sampling.test_generate import numbered, sample, tiny_models
models, labels, keys = tiny_models(), np.arange(8, dtype=np.int32) % 3, numbered(8)
alone = sample(models, labels, keys)
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec("data"))
whole = NamedSharding(mesh, PartitionSpec())
models = (models[0], jax.device_put(models[1], whole))
spread = sample(models, jax.device_put(labels, split), jax.device_put(keys, split))
assert len(spread.images.sharding.device_set) == 8, spread.images.sharding
for one, other in zip(alone.tokens, spread.tokens):
    np.testing.assert_array_equal(one, other)
np.testing.assert_allclose(alone.images, spread.images, atol=1e-4)

module = sys.modules["mvar_jax.sampling.generate"]
running = jax.random.normal(jax.random.key(0), (8, 2, 3, 4))
whole = module._decode(*models, running)
module.CPU_PIXELS_AT_ONCE = 1
mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
with jax.set_mesh(mesh):
    running = jax.device_put(running, NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))
    decode = jax.jit(module._decode, static_argnums=0).lower(*models, running).compile()
    text = decode.as_text()
    assert "while" in text and "all-" not in text
    np.testing.assert_allclose(decode(models[1], running), whole, atol=1e-5)
print("equal on", jax.device_count())
"""


def test_eight_devices_give_the_same_images(pytestconfig):
    result = subprocess.run(
        [sys.executable, "-c", SHARDED],
        cwd=pytestconfig.rootpath,
        env=eight_devices(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "equal on 8", result.stderr[-2000:]


def forced(models, tokens, mask):
    """A request whose tokens are given where the mask is not 0, one of each a scale."""
    given = [Forced(jnp.asarray(t), jnp.asarray(m, jnp.float32)) for t, m in zip(tokens, mask)]
    asked = request(jnp.array([0, 1], jnp.int32), numbered(2))
    return generate(*models, asked.replace(forced=given))


def test_given_tokens_take_the_place_of_drawn_ones(models):
    free = sample(models, jnp.array([0, 1], jnp.int32), numbered(2))
    other = [(tokens + 1) % 16 for tokens in free.tokens]
    nothing = [np.zeros(tokens.shape) for tokens in other]
    same = forced(models, other, nothing)
    for one, expected in zip(same.tokens, free.tokens):
        np.testing.assert_array_equal(one, expected)
    np.testing.assert_array_equal(same.images, free.images)

    everything = [np.ones(tokens.shape) for tokens in other]
    given = forced(models, other, everything)
    for one, expected in zip(given.tokens, other):
        np.testing.assert_array_equal(one, expected)

    left = [np.array([[1.0]]), np.array([[1, 0]]), np.array([[1, 0, 0, 1, 0, 0]])]
    left = [np.repeat(mask, 2, axis=0) for mask in left]
    mixed = forced(models, other, left)
    for one, expected, mask in zip(mixed.tokens, other, left):
        np.testing.assert_array_equal(np.asarray(one)[mask == 1], np.asarray(expected)[mask == 1])


def test_a_mask_between_mixes_codes(models):
    free = sample(models, jnp.array([0, 1], jnp.int32), numbered(2))
    other = [(tokens + 1) % 16 for tokens in free.tokens]
    ends = [
        forced(models, other, [np.full(tokens.shape, share) for tokens in other])
        for share in (0.0, 0.25, 0.5, 1.0)
    ]
    assert all(jnp.any(a.images != b.images) for a, b in itertools.pairwise(ends))
    np.testing.assert_array_equal(ends[1].tokens[0], free.tokens[0])  # mostly drawn
    np.testing.assert_array_equal(ends[2].tokens[0], other[0])  # mostly given


def test_tokens_of_too_few_scales_are_refused(models):
    with pytest.raises(ValueError, match="tokens of 1 scales, expected 3"):
        forced(models, [jnp.zeros((2, 1), jnp.int32)], [np.ones((2, 1))])


def test_guidance_and_temperature_are_of_every_scale(models):
    """What a scale is drawn with changes it and what follows, nothing before."""
    labels, keys = jnp.array([0, 1], jnp.int32), numbered(2)
    plain = settings(top_k=0, top_p=0.0)
    before = sample(models, labels, keys, plain)
    for changed in (
        plain.replace(guidance=plain.guidance + np.array([0, 9, 0], np.float32)),
        plain.replace(temperature=plain.temperature * np.array([1, 9, 1], np.float32)),
    ):
        after = sample(models, labels, keys, changed)
        np.testing.assert_array_equal(after.tokens[0], before.tokens[0])
        assert jnp.any(after.tokens[1] != before.tokens[1])


def test_one_model_draws_several_schedules(models):
    """The coarser scales alone: their tokens are those of the whole, the image is smaller."""
    sampler, weights = models
    labels, keys = jnp.array([0, 1], jnp.int32), numbered(2)
    whole = sample(models, labels, keys)
    coarse = replace(sampler, schedule=ScaleSchedule(sampler.scales.sizes[:2]))
    asked = request(labels, keys).replace(filters=Filters.of(SamplingConfig(1.5, 8, 0.9), 3))
    small = generate(coarse, weights, asked)
    assert small.images.shape == (2, 4, 8, 3)
    np.testing.assert_array_equal(small.tokens[0], whole.tokens[0])


def test_a_schedule_that_learned_positions_do_not_fit_is_named(models):
    sampler, weights = models
    other = replace(sampler, schedule=ScaleSchedule(((1, 1), (2, 1), (2, 3))))
    with pytest.raises(ValueError, match=r"got 1x1, 2x1, 2x3, .* are for 1x1, 1x2, 2x3"):
        generate(other, weights, request(jnp.array([0], jnp.int32), numbered(1)))


def test_a_policy_for_another_schedule_is_refused(models):
    sampler, weights = models
    coarse = ScaleSchedule(sampler.scales.sizes[:2])
    compression = prepare_compression("full", coarse, sampler.trunk.attention_shape)
    with pytest.raises(ValueError, match="planned for other scales"):
        asked = request(jnp.array([0], jnp.int32), numbered(1))
        generate(sampler, weights.replace(compression=compression), asked)
