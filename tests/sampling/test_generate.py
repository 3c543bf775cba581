"""Sampling: each image by itself, one program for all settings, filters in the official order."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.config import ModelConfig, SSMConfig, TokenizerConfig
from mvar_jax.models import Trunk, example_inputs
from mvar_jax.sampling import Filter, generate, grow, image_keys
from mvar_jax.sampling.guidance import guidance_ramp, guide
from mvar_jax.tokenizers import VQTokenizer

CLASSES = 3


def tiny_models(pattern=("scale+ssm", "history")):
    """A tokenizer of 8x12 pixels and a trunk of two blocks, with random parameters."""
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
        depth=2,
        width=16,
        heads=2,
        pattern=pattern,
        ssm=SSMConfig(state_size=8, head_dim=8),
    )
    trunk = Trunk(model, tokenizer.schedule, tokenizer.vocabulary, tokenizer.code_channels)
    tokenizer = VQTokenizer(tokenizer)
    shapes = {
        "trunk": jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk)),
        "tokenizer": jax.eval_shape(tokenizer.init, jax.random.key(0), jnp.zeros((1, 8, 12, 3))),
    }
    leaves, tree = jax.tree.flatten({name: tree["params"] for name, tree in shapes.items()})
    keys = jax.random.split(jax.random.key(1), len(leaves))
    values = [0.5 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves)]
    return trunk, tokenizer, jax.tree.unflatten(tree, values)


@pytest.fixture(scope="module")
def models():
    return tiny_models()


def sample(models, labels, keys, filters=None, smooth=False):
    filters = filters or Filter(1.5, 8, 0.9, 1.0)
    trunk, tokenizer, params = models
    return generate(trunk, tokenizer, params, jnp.asarray(labels), keys, filters, smooth)


def test_an_image_does_not_depend_on_its_batch(models):
    labels, keys = jnp.array([0, 1, 2, 1, 0], jnp.int32), image_keys(0, 5)
    whole = sample(models, labels, keys)
    assert whole.images.shape == (5, 8, 12, 3) and whole.images.dtype == jnp.float32
    for order in ([3], [4, 2, 0], [1, 1, 3, 0, 2, 4, 4]):
        order = jnp.array(order)
        part = sample(models, labels[order], keys[order])
        for actual, expected in zip(part.tokens, whole.tokens):
            np.testing.assert_array_equal(actual, expected[order])
        np.testing.assert_allclose(part.images, whole.images[order], atol=1e-4)


@pytest.mark.parametrize("smooth", [False, True])
def test_growth_ends_in_the_image(models, smooth):
    trunk, tokenizer, params = models
    labels, keys, filters = jnp.array([0, 1], jnp.int32), image_keys(0, 2), Filter(1.5, 8, 0.9, 1.0)
    grown = grow(trunk, tokenizer, params, labels, keys, filters, smooth)
    assert grown.shape == (3, 2, 8, 12, 3) and grown.dtype == jnp.float32
    whole = sample(models, labels, keys, smooth=smooth)
    np.testing.assert_allclose(grown[-1], whole.images, atol=1e-4)
    assert jnp.any(grown[0] != grown[1]) and jnp.any(grown[1] != grown[2])


def test_labels_and_keys_matter(models):
    keys = image_keys(0, 2)
    same = sample(models, jnp.array([1, 1], jnp.int32), jnp.stack([keys[0], keys[0]]))
    np.testing.assert_array_equal(same.images[0], same.images[1])
    by_key = sample(models, jnp.array([1, 1], jnp.int32), keys)
    assert jnp.any(by_key.images[0] != by_key.images[1])
    by_label = sample(models, jnp.array([0, 1], jnp.int32), jnp.stack([keys[0], keys[0]]))
    assert jnp.any(by_label.images[0] != by_label.images[1])


def test_settings_are_traced(models):
    labels, keys = jnp.array([0, 1], jnp.int32), image_keys(0, 2)
    results = [
        sample(models, labels, keys, Filter(guidance, k, p, temperature)).images
        for guidance, k, p, temperature in (
            (1.5, 8, 0.9, 1.0),
            (4.0, 8, 0.9, 1.0),
            (1.5, 1, 0.9, 1.0),
            (1.5, 0, 0.0, 5.0),
        )
    ]
    compiled = generate._cache_size()
    sample(models, labels, keys, Filter(2.5, 3, 0.5, 0.7))
    assert generate._cache_size() == compiled
    assert all(jnp.any(results[0] != other) for other in results[1:])


def test_smooth_mixes_codes(models):
    labels, keys = jnp.array([0, 1], jnp.int32), image_keys(0, 2)
    plain, smooth = sample(models, labels, keys), sample(models, labels, keys, smooth=True)
    assert jnp.isfinite(smooth.images).all()
    assert jnp.any(plain.images != smooth.images)


def test_guidance_grows_from_nothing_and_mixes_pairs_of_rows():
    assert [guidance_ramp(4.0, scale, 5) for scale in range(5)] == [0, 1, 2, 3, 4]
    assert guidance_ramp(4.0, 0, 1) == 0
    rows = jnp.arange(4.0)[:, None, None] * jnp.ones((4, 2, 3))
    np.testing.assert_allclose(guide(rows, 2.0)[:, 0, 0], [3 * 0 - 2 * 1, 3 * 2 - 2 * 3])


SHARDED = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from mvar_jax.sampling import image_keys
from tests.sampling.test_generate import sample, tiny_models
models, labels, keys = tiny_models(), np.arange(8, dtype=np.int32) % 3, image_keys(0, 8)
alone = sample(models, labels, keys)
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec("data"))
whole = NamedSharding(mesh, PartitionSpec())
models = (*models[:2], jax.device_put(models[2], whole))
spread = sample(models, jax.device_put(labels, split), jax.device_put(keys, split))
assert len(spread.images.sharding.device_set) == 8, spread.images.sharding
for one, other in zip(alone.tokens, spread.tokens):
    np.testing.assert_array_equal(one, other)
np.testing.assert_allclose(alone.images, spread.images, atol=1e-4)
print("equal on", jax.device_count())
"""


def test_eight_devices_give_the_same_images(pytestconfig):
    environment = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PATH": "",
    }
    result = subprocess.run(
        [sys.executable, "-c", SHARDED],
        cwd=pytestconfig.rootpath,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "equal on 8", result.stderr[-2000:]
