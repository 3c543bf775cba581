"""Adapters are merged into their base and no other; what is merged is a model like any."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mvar_jax
from mvar_jax.cache import Profile
from mvar_jax.config import AdapterConfig
from mvar_jax.convert.export_model import export_model
from mvar_jax.convert.export_weights import export_weights
from mvar_jax.models.adapter import merge
from mvar_jax.models.checksum import checksum
from mvar_jax.training.adapted import load_whole_trunk, whole_classes
from mvar_jax.training.weights import load_trunk
from mvar_jax.workdir import Workdir
from tests.training.adapters import BASE, NAMES, adapter_config, write_adapter, write_base

STRENGTH = adapter_config(1).adapter.strength


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def params(base):
    return load_trunk(BASE, base)


@pytest.fixture(scope="module")
def weights(params):
    return checksum(params)


@pytest.fixture(scope="module")
def styled(base, weights, tmp_path_factory):
    """An adapter of a class that the base knows and of a new one, with its parameters."""
    folder = tmp_path_factory.mktemp("styled")
    return write_adapter(folder, base, ("owl", "dog"), weights)


@pytest.fixture(scope="module")
def other(base, weights, tmp_path_factory):
    """Another one, of a new class and of the new one of `styled`."""
    folder = tmp_path_factory.mktemp("other")
    return write_adapter(folder, base, ("ant", "owl"), weights, seed=1)


def equal(one, two, tolerance=0.0):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), one, two)


def test_an_adapter_is_merged_into_its_base_and_brings_its_classes(base, params, styled):
    workdir, adapter = styled
    whole = load_whole_trunk(workdir)
    assert whole.class_names == whole_classes(workdir) == (*NAMES, "owl") and whole.base == base
    assert whole.config.model.num_classes == 4 and whole.config.adapter == AdapterConfig()
    embedding, rows = params["class_embedding"], adapter["class_embedding"]
    owl = jnp.mean(embedding[:3], axis=0) + rows[0]
    expected = [embedding[0], embedding[1] + rows[1], embedding[2], owl, embedding[3]]
    found = dict(whole.params)
    np.testing.assert_allclose(found.pop("class_embedding"), expected, atol=1e-6)
    others = {name: value for name, value in params.items() if name != "class_embedding"}
    equal(found, merge(others, adapter, strength=STRENGTH), 1e-6)
    equal(load_whole_trunk(base, [workdir.path]).params, whole.params)


def test_several_adapters_add_up_by_their_weights(base, params, styled, other):
    (one, first), (two, second) = styled, other
    both = load_whole_trunk(base, {str(one.path): 0.5, str(two.path): 2.0})
    assert both.class_names == (*NAMES, "owl", "ant")
    kernel = params["blocks_0"]["ffn"]["up"]["kernel"]
    changes = [each["blocks_0"]["ffn"]["up"]["kernel"] for each in (first, second)]
    one_product, two_product = (np.matmul(change["down"], change["up"]) for change in changes)
    expected = kernel + STRENGTH * (0.5 * one_product + 2 * two_product)
    np.testing.assert_allclose(both.params["blocks_0"]["ffn"]["up"]["kernel"], expected, atol=1e-5)
    mean = jnp.mean(params["class_embedding"][:3], axis=0)
    owl = mean + 0.5 * first["class_embedding"][0] + 2 * second["class_embedding"][1]
    np.testing.assert_allclose(both.params["class_embedding"][3], owl, atol=1e-5)
    turned = load_whole_trunk(two, [one.path])
    assert turned.class_names == (*NAMES, "ant", "owl")
    nothing = load_whole_trunk(base, {str(one.path): 0.0})
    equal({**nothing.params, "class_embedding": 0}, {**params, "class_embedding": 0})


def test_a_base_that_has_moved_is_named(styled, base, tmp_path):
    workdir = Workdir.of(shutil.copytree(styled[0].path, tmp_path / "adapter"))
    moved = tmp_path / "moved"
    workdir.save_record(dataclasses.replace(workdir.record(), base=str(tmp_path / "gone")))
    with pytest.raises(ValueError, match=f"adapter: its base {tmp_path}/gone is not there; name"):
        mvar_jax.load(workdir.path)
    shutil.copytree(base.path, moved)
    model = mvar_jax.load(workdir.path, base=moved)
    assert model.class_names == (*NAMES, "owl")
    (workdir.path / "run.json").unlink()
    with pytest.raises(ValueError, match=r"has no run.json that names a base, expected that of"):
        mvar_jax.load(workdir.path)


def test_what_does_not_go_together_is_refused(styled, base, weights, tmp_path):
    workdir, _ = styled
    strange, _ = write_adapter(tmp_path / "strange", base, ("owl",), "0" * 64)
    for arguments, sentence in (
        ((strange,), f"strange: adapts other weights than {base.path} holds .{weights[:12]}, expe"),
        ((base, [base.path]), "holds a whole model, expected an adapter"),
        ((base, {str(workdir.path): float("nan")}), "adapters: got the weight nan for"),
        ((base, [workdir.path, workdir.path]), f"adapters: got {workdir.path} twice, expected"),
        ((workdir, {str(workdir.path): 0.5}), f"adapters: got {workdir.path} twice, expected"),
    ):
        with pytest.raises(ValueError, match=sentence):
            load_whole_trunk(*arguments)
    with pytest.raises(ValueError, match=f"base: {base.path} is no adapter, so it has none"):
        load_whole_trunk(base, base=base)
    with pytest.raises(ValueError, match="holds an adapter, expected a whole model; make one of"):
        load_whole_trunk(workdir, base=strange)


def profile(weights):
    """What might have been measured of the base."""
    scales, (layers, heads) = len(BASE.tokenizer.scales), (BASE.model.depth, BASE.model.heads)
    return Profile(
        checksum=weights,
        sizes=BASE.tokenizer.scales,
        samples=1,
        head_variance=np.random.default_rng(0).random((layers, heads), dtype=np.float32),
        mass=np.ones((layers, heads, scales, scales), np.float32),
        selectivity=np.ones((layers, scales), np.float32),
    )


def test_a_profile_of_the_base_is_not_one_of_the_adapted_model(styled, base, weights):
    measured, model = profile(weights), mvar_jax.load(base.path)
    name = checksum(model.weights.trunk)
    measured.check_fits(name, model.sampler.scales, *model.trunk.attention_shape)
    with pytest.raises(ValueError, match=f"profile: it was made for the weights {weights[:12]}"):
        mvar_jax.load(styled[0].path).compressed("hack", ratio=0.5, profile=measured)


def test_what_is_exported_is_a_whole_model(styled, other, base, tmp_path):
    out = Workdir.of(tmp_path / "merged")
    said = export_model(base, out.path, [each.path for each, _ in (styled, other)])
    assert said == "a model to sample from, its tokenizer included, with 2 adapter(s) merged"
    model = mvar_jax.load(out.path)
    expected = mvar_jax.load(styled[0].path, adapters=[other[0].path])
    assert (model.config, model.class_names) == (expected.config, expected.class_names)
    equal(model.weights, expected.weights)
    files = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    export_weights(out, files[0])
    assert export_weights(styled[0], files[1], adapters=[other[0].path]).startswith("var of")
    assert files[0].read_bytes() == files[1].read_bytes()
