"""The encoder of T5; its numbers are compared in test_conformance."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.convert.t5_names import t5_entries
from mvar_jax.text import FLAN_T5
from mvar_jax.text.t5 import T5
from tests.conformance_checks.text import t5_config, t5_params
from tests.convert.manifests import T5S
from tests.reference import GOLDEN, ReferenceFile
from tests.text.builders import CONFIG

FILE = ReferenceFile.load(GOLDEN / "networks" / "t5_a.npz")


@functools.cache
def reference_model():
    """The model of the reference file, compiled as it is used."""
    model, params = T5(t5_config(FILE.config)), t5_params(FILE)
    return jax.jit(lambda tokens, mask: model.apply({"params": params}, tokens, mask))


def test_a_prompt_depends_neither_on_others_nor_on_padding():
    """To 1e-6 of the largest value, which is how a matmul rounds at another size."""
    run, generator = reference_model(), np.random.default_rng(0)
    for length in (1, 5, 16):
        row = generator.integers(2, 200, length)
        made = []
        for batch, n in ((1, 16), (1, 16), (2, 16), (1, 24), (8, 32), (5, 128)):
            tokens = generator.integers(2, 200, (batch, n))
            lengths = generator.integers(1, n + 1, batch)
            tokens[-1, :length], lengths[-1] = row, length
            mask = np.arange(n) < lengths[:, None]
            features = np.asarray(run(tokens, mask))
            assert not features[~mask].any()
            made.append(features[-1, :length])
        np.testing.assert_array_equal(made[0], made[1])  # what the padding holds
        for other in made[2:]:
            np.testing.assert_allclose(other, made[0], rtol=0, atol=1e-6 * np.abs(made[0]).max())


def test_weights_of_the_reference_are_drawn_by_its_recipe():
    """Values that were stored of the original's weights: the first four, and the sum of sizes."""
    weights = FILE.weights(t5_entries(t5_config(FILE.config)))
    block = "encoder.block.0.layer.0.SelfAttention"
    for name, total, *first in (
        ("shared.weight", 9801.612827, -0.6884406, 0.06109357, 0.9617168, 1.928852),
        (f"{block}.q.weight", 249.549254, 0.1223295, -0.02037058, -0.05227358, 0.09596696),
        (f"{block}.relative_attention_bias.weight", 104.113060, 0.897701, 0.6730552),
        ("encoder.final_layer_norm.weight", 64.600663, 1.116426, 1.211838, 0.836305, 0.9950439),
    ):
        found = weights[name].ravel()[: len(first)]
        np.testing.assert_allclose(found, first, rtol=1e-6)
        assert np.abs(weights[name], dtype=np.float64).sum() == pytest.approx(total)


def test_without_any_token_nothing_is_nan():
    features = reference_model()(np.zeros((1, 16), int), np.zeros((1, 16), bool))
    assert not np.any(features)


def test_bfloat16_is_near():
    """What layers add up is float32: the original in bfloat16 is off by 0.14."""
    config = dataclasses.replace(t5_config(FILE.config), compute_dtype="bfloat16")
    params = jax.tree.map(lambda array: array.astype(jnp.bfloat16), t5_params(FILE))
    mask = FILE["attention_mask"] > 0
    run = jax.jit(T5(config).apply)
    features = run({"params": params}, FILE["input_ids"], mask)
    assert features.dtype == jnp.float32
    difference = np.abs(features - FILE["last_hidden_state"])[mask].max()
    assert 1e-3 < difference < 0.08


@pytest.mark.parametrize("size", T5S)
def test_published_sizes_have_the_published_number_of_parameters(size):
    tokens = jax.ShapeDtypeStruct((1, 16), jnp.int32), jax.ShapeDtypeStruct((1, 16), bool)
    shapes = jax.eval_shape(T5(FLAN_T5[size]).init, jax.random.key(0), *tokens)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == T5S[size]["num_parameters"]


def test_fresh_parameters_give_features_of_ordinary_size():
    tokens, mask = jnp.arange(16)[None], jnp.ones((1, 16), bool)
    model = T5(CONFIG)
    features = model.apply(model.init(jax.random.key(0), tokens, mask), tokens, mask)
    assert 0.5 < float(jnp.std(features)) < 2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"heads": 0}, "heads: got 0"),
        ({"buckets": 7}, "buckets: got 7"),
        ({"max_distance": 2}, "max_distance of 2"),
        ({"compute_dtype": "float16"}, "compute_dtype: got 'float16'"),
    ],
)
def test_sizes_that_make_no_encoder_are_named(changes, word):
    with pytest.raises(ValueError, match=word):
        dataclasses.replace(CONFIG, **changes)
