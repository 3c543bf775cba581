"""What is wrong with the data is said before a training compiles or writes anything."""

from dataclasses import replace

import numpy as np
import pytest

from mvar_jax.config import DataConfig
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.convert.text_encoder import open_text_encoder
from mvar_jax.experiment import tokenizer_training, trunk_training
from mvar_jax.experiment.tokenizer_training import train_tokenizer
from mvar_jax.experiment.training_data import caption_encoder
from mvar_jax.experiment.trunk_training import train_trunk
from mvar_jax.text import write_features
from mvar_jax.workdir import Workdir
from tests.data.builders import encode, gradient
from tests.training.tiny import CONFIG


@pytest.mark.parametrize("train", [train_tokenizer, train_trunk])
def test_images_of_another_size(tmp_path, monkeypatch, train):
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    for name in "abc":
        (folder / f"{name}.png").write_bytes(encode(gradient(9, 9)))
    for module in (tokenizer_training, trunk_training):
        monkeypatch.setattr(module, "make_layout", lambda *_: pytest.fail("went on"))
    data = DataConfig(name="folder", directory=str(tmp_path / "photos"), augmentation="none")
    workdir = Workdir.of(tmp_path / "run")
    with pytest.raises(ValueError, match=r"has \(height, width\) \(9, 9\), expected \(8, 8\)"):
        train(replace(CONFIG, data=data), workdir)
    assert not workdir.path.exists()


@pytest.fixture(scope="module")
def captioned():
    return from_config_dict(load_config("configs/infinity_shapes.py:runlocal"))


def test_captions_longer_than_the_model_reads_are_cut(captioned, caplog):
    encode = caption_encoder(captioned)
    short = encode({"caption": "a ball", "number": 3})
    assert short["number"] == 3 and short["features"].shape == (32, 256)
    assert 0 < short["mask"].sum() < 32 and not caplog.records
    long = "a ball and " * 40
    for _ in range(2):
        made = encode({"caption": long})
    assert made["mask"].all()
    whole = open_text_encoder("wordllama").encode([long]).features
    np.testing.assert_array_equal(made["features"], whole[0, :32])
    assert [r.getMessage()[:51] for r in caplog.records] == [
        "data: captions of more than 32 tokens are cut to th"
    ]


def test_parts_of_captions_are_not_among_stored_features(captioned, tmp_path):
    write_features(tmp_path / "features", open_text_encoder("wordllama"), ["a ball"])
    stored = replace(captioned.data, text_encoder=str(tmp_path / "features"))
    caption_encoder(replace(captioned, data=stored))({"caption": "a ball"})
    parts = replace(stored, short_caption_rate=0.1)
    with pytest.raises(ValueError, match="features of whole captions"):
        caption_encoder(replace(captioned, data=parts))
