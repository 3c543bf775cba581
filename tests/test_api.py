"""A model of texts is opened by `mvar_jax.load` and draws, as one of classes does."""

import jax
import numpy as np
import pytest

import mvar_jax
from mvar_jax.config import Config
from mvar_jax.convert.import_weights import import_weights
from mvar_jax.experiment.starting_weights import inherit_trunk
from mvar_jax.scales import ScaleSchedule
from mvar_jax.text import TextFeatures
from mvar_jax.text.features import token_mask
from mvar_jax.workdir import Workdir
from tests.convert.models import bitwise, official_weights, text_trunk, write_official
from tests.text.builders import write_t5

SCHEDULE = ScaleSchedule.squares(1, 2, 4)
PROMPTS = ["a red ball", "a dog"]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A directory that got a trunk of texts and a tokenizer of bits from official files."""
    folder = tmp_path_factory.mktemp("imported")
    tokenizer = bitwise(image_size=(8, 8), scales=SCHEDULE.sizes)
    trunk, run = text_trunk(schedule=SCHEDULE), folder / "run"
    for model, given in ((trunk, SCHEDULE), (tokenizer, None)):
        path = write_official(folder / "a.pth", official_weights(model))
        import_weights(path, Workdir.of(run), schedule=given)
    return run


@pytest.fixture(scope="module")
def model(imported):
    return mvar_jax.load(imported)


def features(seed):
    """Two texts, as long as those of prompts, so that one program draws both."""
    values = np.random.default_rng(seed).standard_normal((2, 16, 32)).astype(np.float32)
    mask = token_mask([5, 3], 16)
    return TextFeatures(values * mask[..., None], mask)


def test_features_become_images(model):
    images = model.sample(features(0), seed=0).images
    assert images.shape == (2, 8, 8, 3) and np.isfinite(images).all()
    assert np.any(images[0] != images[1])
    assert model.class_names == () and " texts," in repr(model)


def test_a_negative_text_changes_the_image(model):
    plain = model.sample(features(0), seed=0, guidance=3.0).images
    away = model.sample(features(0), seed=0, guidance=3.0, negative=features(1)).images
    assert np.any(plain != away)


def test_another_shape(model):
    tall = model.reshaped(aspect="1.5")
    assert tall.image_size == (10, 6)
    assert tall.sample(features(0), seed=0).images.shape == (2, 10, 6, 3)


def test_prompts_need_a_text_encoder(model, imported, tmp_path):
    with pytest.raises(ValueError, match="prompts: the model has no text encoder; load it with"):
        model.sample("a prompt")
    folder = write_t5(tmp_path / "t5")
    reading = mvar_jax.load(imported, text_encoder=folder)
    images = reading.sample(PROMPTS, seed=0).images
    encoder = reading.text_encoder
    again = mvar_jax.load(imported, text_encoder=encoder)
    assert again.text_encoder is encoder
    np.testing.assert_array_equal(again.sample(PROMPTS, seed=0).images, images)
    with pytest.raises(ValueError, match="no such folder, expected one with a T5"):
        mvar_jax.load(imported, text_encoder=tmp_path / "none")


def test_another_run_starts_from_a_model_of_texts(model, imported):
    params = inherit_trunk(model.config, Workdir.of(imported), ())
    jax.tree.map(np.testing.assert_array_equal, params, model.weights.trunk)


def test_classes_and_texts_are_not_mixed_up(model, tmp_path):
    for ask in (model.parse_labels, model.label_indices):
        with pytest.raises(ValueError, match="labels: the model has no classes; give prompts"):
            ask("3")
    Workdir.of(tmp_path).save_config(Config())
    with pytest.raises(ValueError, match="text_encoder: the model draws classes, not prompts"):
        mvar_jax.load(tmp_path, text_encoder="wordllama")
