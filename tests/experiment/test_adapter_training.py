"""An adapter is trained and kept alone, goes on to the same bits, and knows its base."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from PIL import Image

import mvar_jax
from mvar_jax.array_types import path_name
from mvar_jax.config import DataConfig
from mvar_jax.experiment import trunk_training
from mvar_jax.experiment.trunk_training import train_trunk
from mvar_jax.models.checksum import checksum
from mvar_jax.training.parameters import save_params
from mvar_jax.training.weights import load_adapter, load_trunk
from mvar_jax.workdir import Workdir
from tests.training.adapters import BASE, RANK, adapter_config, write_base

STEPS = 4


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Of an adapter in bfloat16, in two parts of a batch, for a new class and one that is known."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in ("dog", "owl"):
        (folder / name).mkdir()
        for i in range(12):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    data = DataConfig(name="folder", directory=str(folder), augmentation="none", num_threads=0)
    own = adapter_config(5)  # classes, which the data corrects
    training = replace(own.training, steps=STEPS, save_every=2, validate_every=STEPS, accumulate=2)
    model = replace(own.model, compute_dtype="bfloat16")
    return replace(own, data=data, model=model, training=training)


@pytest.fixture(scope="module")
def trained(base, config, tmp_path_factory):
    """The working directory of a run, and its outcome; do not write there."""
    workdir = Workdir.of(tmp_path_factory.mktemp("adapter"))
    return workdir, train_trunk(config, workdir, base=base)


def shapes(path, name):
    tree = ocp.metadata(path, checkpointable_name=name).metadata
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(at): tuple(leaf.shape) for at, leaf in leaves}


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_checkpoints_hold_the_adapter_alone(base, trained):
    workdir, outcome = trained
    assert not workdir.tokenizer.path.exists()
    whole = {name: leaf.shape for name, leaf in leaves(load_trunk(BASE, base)).items()}
    whole.pop("class_embedding")
    path = workdir.checkpoints / str(STEPS)
    own = shapes(path, "params")
    assert own == shapes(path, "average")
    assert own.pop("class_embedding") == (2, BASE.model.width)
    assert {name.rpartition("/")[2] for name in own} == {"down", "up"}
    assert {name.rpartition("/")[0] for name in own} < set(whole)
    assert all(RANK in shape for shape in own.values())
    moments = shapes(path, "optimizer")
    for name, shape in moments.items():
        assert shape in (*own.values(), (2, BASE.model.width), (2,), ()), name
    assert outcome.history[-1]["step"] == STEPS and "validation_loss" in outcome.history[-1]


def leaves(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_it_goes_on_to_the_same_bits_with_the_base_that_it_began_with(
    base, config, trained, tmp_path
):
    workdir = Workdir.of(shutil.copytree(trained[0].path, tmp_path / "stopped"))
    shutil.rmtree(workdir.checkpoints / str(STEPS))
    train_trunk(config, workdir)
    log = "metrics.jsonl"
    assert (workdir.path / log).read_bytes() == (trained[0].path / log).read_bytes()
    one, other = (load_adapter(each.config(), each) for each in (workdir, trained[0]))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert any(np.any(leaf) for name, leaf in leaves(one).items() if name.endswith("/up"))


def test_it_is_a_model_with_the_classes_of_both(base, trained):
    workdir = trained[0]
    model = mvar_jax.load(workdir.path)
    assert model.class_names == ("cat", "dog", "fox", "owl")
    record = workdir.record()
    assert record.base == str(base.path)
    assert record.base_checksum == checksum(load_trunk(BASE, base))
    assert workdir.class_names(2) == ("dog", "owl")


def test_a_base_on_the_hub_is_recorded_by_its_address(base, config, tmp_path, monkeypatch):
    address, workdir = f"hf://me/base@{'0' * 40}", Workdir.of(tmp_path / "adapter")

    def begin_alone(*_, begin, **__):
        begin()
        raise InterruptedError

    monkeypatch.setattr(trunk_training, "fit", begin_alone)
    with pytest.raises(InterruptedError):
        train_trunk(config, workdir, base=replace(base, address=address))
    assert workdir.record().base == address


def test_another_base_or_none_is_refused_and_nothing_written(base, config, trained, tmp_path):
    other = replace(BASE, model=replace(BASE.model, num_classes=3, mlp_ratio=2.0))
    strange = write_base(tmp_path / "strange", other)
    new, plain = Workdir.of(tmp_path / "new"), replace(config, adapter=BASE.adapter)
    longer = replace(config, training=replace(config.training, steps=STEPS + 2))
    before = contents(trained[0].path)
    for arguments, others, sentence in (
        ((config, new), {}, "adapter.rank: got 2 without a trunk to adapt; name its working dir"),
        ((plain, new), {"base": base}, f"--base: got {base.path} without an adapter; set"),
        ((config, new), {"base": trained[0]}, "holds an adapter, expected a whole model"),
        ((config, new), {"base": base, "init": base}, "--init: an adapter starts from --base"),
        ((config, new), {"base": new}, f"its base {new.path} is not there"),
        ((config, new), {"base": strange}, "has a trunk of model.mlp_ratio=2.0, but the config"),
    ):
        with pytest.raises(ValueError, match=sentence):
            train_trunk(*arguments, **others)
    assert not new.path.exists() or not list(new.path.iterdir())
    other = shifted(base, tmp_path / "other")
    with pytest.raises(ValueError, match=f"adapts other weights than {other.path} holds"):
        train_trunk(longer, trained[0], base=other)
    assert contents(trained[0].path) == before


def shifted(base, path):
    """A copy of a base with one weight changed."""
    target = Workdir.of(shutil.copytree(base.path, path))
    shutil.rmtree(target.checkpoints)
    params = leaves(load_trunk(BASE, base))
    params["head/bias"] = params["head/bias"].at[0].add(1.0)
    arrays = ((tuple(name.split("/")), np.asarray(leaf)) for name, leaf in params.items())
    save_params(target.checkpoints, arrays)
    return target
