"""What is wrong with the data is said before a training compiles or writes anything."""

from dataclasses import replace

import pytest

from mvar_jax.config import DataConfig
from mvar_jax.experiment import trainings
from mvar_jax.experiment.trainings import train_tokenizer, train_trunk
from mvar_jax.workdir import Workdir
from tests.data.builders import encode, gradient
from tests.training.tiny import CONFIG


@pytest.mark.parametrize("train", [train_tokenizer, train_trunk])
def test_images_of_another_size(tmp_path, monkeypatch, train):
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    for name in "abc":
        (folder / f"{name}.png").write_bytes(encode(gradient(9, 9)))
    monkeypatch.setattr(trainings, "make_layout", lambda *_: pytest.fail("went on"))
    data = DataConfig(name="folder", directory=str(tmp_path / "photos"), augmentation="none")
    workdir = Workdir.of(tmp_path / "run")
    with pytest.raises(ValueError, match=r"has \(height, width\) \(9, 9\), expected \(8, 8\)"):
        train(replace(CONFIG, data=data), workdir)
    assert not workdir.path.exists()
