"""A working directory, token folder and profile of an earlier version load, and give the same.

`tests/golden/earlier/run.tar.gz` holds a tiny VAR and M-VAR mixture trained for four steps on the
tokens beside it, and a profile of its attention. `expected.npz` is what that version drew with it,
and the start of a new run (sum, sum of magnitudes and last number of every parameter); `rows.json`
is the metrics of training on.
"""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import mvar_jax
from mvar_jax.array_types import path_name
from mvar_jax.cache import Profile
from mvar_jax.experiment.tokenizer_training import train_tokenizer
from mvar_jax.experiment.trunk_training import train_trunk
from mvar_jax.training.weights import init_tokenizer, init_trunk
from mvar_jax.workdir import Workdir
from tests.reference import GOLDEN

EARLIER = GOLDEN / "earlier"
LABELS = [3, "7", 1]


@pytest.fixture(scope="module")
def expected():
    with np.load(EARLIER / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The earlier files in the current directory, which their config names tokens in."""
    with tarfile.open(EARLIER / "run.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pictures(here, expected):
    model = mvar_jax.load("run")
    filters = {"guidance": 3.0, "top_k": 9, "top_p": 0.8, "temperature": 0.7}
    check_samples(model.sample(LABELS, seed=5), "plain", expected)
    check_samples(model.sample(LABELS, seed=6, **filters), "filtered", expected)
    check_samples(model.sample(LABELS, seed=7, smooth=True), "smooth", expected)
    np.testing.assert_allclose(model.grow(LABELS, seed=5), expected["grow"], atol=2e-5)


def test_pictures_under_policies_with_its_profile(here, expected):
    model, profile = mvar_jax.load("run"), Profile.load(Path("profile.json"))
    hack = model.compressed("hack", ratio=0.4, profile=profile)
    check_samples(hack.sample(LABELS, seed=5), "hack", expected)
    scalekv = model.compressed("scalekv@before+int8", ratio=0.4, profile=profile, grid=1)
    check_samples(scalekv.sample(LABELS, seed=5), "scalekv", expected)


def check_samples(samples, name, expected):
    for scale, tokens in enumerate(samples.tokens):
        np.testing.assert_array_equal(tokens, expected[f"{name}/tokens_{scale}"], name)
    np.testing.assert_allclose(samples.images, expected[f"{name}/images"], atol=2e-5)


def test_the_start_of_a_run(here, expected):
    config = Workdir.of("run").config()
    for kind, params in (("trunk", init_trunk(config)), ("tokenizer", init_tokenizer(config))):
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            values = np.asarray(leaf, np.float64)
            found = (values.sum(), np.abs(values).sum(), values.ravel()[-1])
            known = expected[f"init/{kind}/{path_name(path)}"]
            np.testing.assert_allclose(found, known, rtol=1e-5, atol=1e-5)


def test_training_goes_on_from_its_tokens(here, digits_directory):
    config = in_place(Workdir.of("run").config(), digits_directory)
    longer = replace(config, training=replace(config.training, steps=6))
    check_rows(train_trunk(longer, Workdir.of("run")), "trunk")


def test_training_of_its_tokenizer_goes_on(here, digits_directory):
    config = in_place(Workdir.of("run/tokenizer").config(), digits_directory)
    longer = replace(config, tokenizer_training=replace(config.tokenizer_training, steps=6))
    outcome = train_tokenizer(longer, Workdir.of("run"), force=True)  # a trunk was trained on it
    check_rows(outcome, "tokenizer")


@pytest.mark.slow
def test_a_new_run_on_its_tokenizer_and_images(here, digits_directory):
    config = in_place(Workdir.of("run").config(), digits_directory)
    images = replace(config, data=replace(config.data, tokens=""))
    shorter = replace(images, training=replace(images.training, steps=3))
    outcome = train_trunk(shorter, Workdir.of("new"), tokenizer_from=Workdir.of("run"))
    check_rows(outcome, "images")


def in_place(config, directory):
    return replace(config, data=replace(config.data, directory=directory))


def check_rows(outcome, name):
    expected = json.loads((EARLIER / "rows.json").read_text())[name]
    for row, known in zip(outcome.history, expected, strict=True):
        assert row.keys() >= known.keys(), row["step"]  # later versions measure more
        own = {metric: row[metric] for metric in known}
        assert own == pytest.approx(known, rel=1e-4), row["step"]
