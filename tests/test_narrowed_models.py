"""What `load` holds in 16 bits: its names are those of the stored weights, its images the same."""

import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mvar_jax
from mvar_jax.array_types import path_name
from mvar_jax.convert.export_model import export_model
from mvar_jax.evaluation.made_up import made_up_profile
from mvar_jax.evaluation.samples import weights_checksums
from mvar_jax.models.checksum import checksum
from mvar_jax.models.parameters import parameter
from mvar_jax.sampling import Model
from mvar_jax.training.adapted import load_whole_trunk
from mvar_jax.training.shared import save_shared
from mvar_jax.training.weights import init_narrowed_trunk, load_trunk
from tests.training.adapters import BASE, write_adapter, write_base

COARSE = replace(BASE, model=replace(BASE.model, compute_dtype="bfloat16"))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model that computes in bfloat16."""
    return write_base(tmp_path_factory.mktemp("base"), COARSE)


@pytest.fixture(scope="module")
def stored(base):
    return load_trunk(COARSE, base)


@pytest.fixture(scope="module")
def model(base):
    return mvar_jax.load(base.path)


def wide(model: Model, trunk) -> Model:
    """The same model, all of whose parameters are in float32."""
    return replace(model, weights=replace(model.weights, trunk=trunk), stored=None)


def assert_held(params):
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        expected = jnp.bfloat16 if parameter(path_name(path)).cast else jnp.float32
        assert leaf.dtype == expected, path_name(path)


def assert_same_images(one, other):
    one, other = (each.sample([0, 1, 2], seed=4) for each in (one, other))
    np.testing.assert_array_equal(one.images, other.images)
    jax.tree.map(np.testing.assert_array_equal, one.tokens, other.tokens)


def test_loaded_kernels_are_narrowed_and_draw_the_same_images(model, stored):
    assert_held(model.weights.trunk)
    assert_held(init_narrowed_trunk(COARSE))
    assert {leaf.dtype for leaf in jax.tree.leaves(model.weights.tokenizer)} == {np.dtype("f4")}
    assert_same_images(model, wide(model, stored))


def test_names_are_those_of_the_stored_weights(model, stored):
    name = checksum(stored)
    assert model.checksum == name == wide(model, stored).checksum
    assert checksum(model.weights.trunk) != name
    names = weights_checksums(model)
    assert names == weights_checksums(wide(model, stored)) and names["trunk"] == name
    both = weights_checksums(model.drafted(model, scales=1))
    assert both == names | {"draft": name}


def test_a_profile_of_the_stored_weights_fits_and_no_other(model, stored):
    made_up = made_up_profile(model.sampler.scales, model.trunk.attention_shape)
    profile = replace(made_up, checksum=checksum(stored))
    asked = {"budget": 3, "profile": profile, "initial_scales": 1}
    small = [each.compressed("hack", **asked) for each in (model, wide(model, stored))]
    assert_held(small[0].weights.trunk)
    assert_same_images(*small)
    with pytest.raises(ValueError, match="the policy may have reordered heads"):
        small[0].checksum
    for other in (made_up, replace(made_up, checksum=checksum(model.weights.trunk))):
        with pytest.raises(ValueError, match="profile: it was made for the weights"):
            model.compressed("hack", **asked | {"profile": other})


def test_adapters_are_merged_before_the_kernels_are_narrowed(base, stored, tmp_path):
    adapter, _ = write_adapter(tmp_path, base, ("owl", "dog"), checksum(stored))
    loaded = mvar_jax.load(base.path, adapters={str(adapter.path): 0.5})
    merged = load_whole_trunk(base, {str(adapter.path): 0.5}).params
    assert_held(loaded.weights.trunk)
    assert loaded.checksum == checksum(merged) != checksum(stored)
    assert_same_images(loaded, wide(loaded, merged))


def test_what_is_exported_is_what_is_stored(base, model, stored, tmp_path):
    out = tmp_path / "exported"
    export_model(base, out)
    again = mvar_jax.load(out)
    assert again.checksum == model.checksum == checksum(stored)
    shutil.rmtree(out / "checkpoints")
    save_shared(out / "model.safetensors", stored)
    shared = mvar_jax.load(out)
    jax.tree.map(np.testing.assert_array_equal, shared.weights.trunk, model.weights.trunk)
    assert shared.checksum == model.checksum


def test_weights_that_were_replaced_since_are_not_named_in_place_of_those_held(tmp_path):
    run = write_base(tmp_path, COARSE)
    model = mvar_jax.load(run.path)
    other = jax.tree.map(lambda leaf: np.asarray(leaf) + 1, load_trunk(COARSE, run))
    shutil.rmtree(run.checkpoints)
    save_shared(run.weights, other)
    with pytest.raises(ValueError, match="weights are others than when the model was loaded"):
        model.checksum
    with pytest.raises(ValueError, match="not those that were loaded"):
        replace(model, weights=replace(model.weights, trunk=other)).checksum
    run.weights.unlink()
    with pytest.raises(ValueError, match="no checkpoint found"):
        model.checksum


def test_a_model_of_float32_is_loaded_as_it_is_stored(tmp_path):
    loaded = mvar_jax.load(write_base(tmp_path).path)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.weights)} == {np.dtype("f4")}
    assert loaded.stored is None
