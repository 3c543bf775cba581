"""Tokenizers are measured by what they keep of the middle of every image."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from mvar_jax.config import Config, DataConfig
from mvar_jax.convert.lpips_names import backbone_entries, head_entries
from mvar_jax.convert.names import read_params
from mvar_jax.data.image_sets import open_images
from mvar_jax.data.split_images import SplitImages
from mvar_jax.evaluate import tokenizer
from mvar_jax.evaluation.comparison import EQUAL_PSNR
from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.frechet import frechet_distance
from mvar_jax.evaluation.judges import Judges
from mvar_jax.evaluation.tokenizer_quality import _comparison, measure_tokenizer
from mvar_jax.networks.lpips import ALEXNET, PerceptualNetwork, lpips
from mvar_jax.ops.fidelity import psnr, ssim
from mvar_jax.pictures.pixels import to_uint8
from tests.evaluation.networks import tiny
from tests.evaluation.samples.tiny import text_model
from tests.network_weights import network_weights


@pytest.fixture(scope="module")
def alex():
    entries = [*backbone_entries(ALEXNET), *head_entries(ALEXNET)]
    shapes = {entry.official: entry.official_shape for entry in entries}
    params = read_params(entries, network_weights(shapes, "alex:"))
    return PerceptualNetwork("alex", ("0", "1"), ALEXNET, params)


def test_figures_of_a_trained_tokenizer(model):
    config, params = model.config, model.weights.tokenizer
    images = SplitImages.open(config.data, "validation", config.tokenizer.image_size, 11)
    done = []
    found = measure_tokenizer(
        config.tokenizer,
        params,
        images,
        Judges([FeatureExtractor(tiny("other"), 4)]),
        batch_size=4,
        report=done.append,
    )
    assert done == [4, 8, 11] and found["images"] == 11
    (originals,) = images.batches(11)
    x = jnp.float32(originals) / 127.5
    apply = jax.jit(model.tokenizer.apply)
    made = to_uint8(apply({"params": params}, x - 1)[0])
    y = jnp.float32(made) / 127.5
    assert found["psnr"] == pytest.approx(float(psnr(x, y).mean()), rel=1e-4)
    assert found["ssim"] == pytest.approx(float(ssim(x, y).mean()), rel=1e-3)
    network = tiny()
    pools = [np.asarray(network.compute(network.params, one).pool) for one in (originals, made)]
    assert found["rfd_lite"] == pytest.approx(frechet_distance(*pools), rel=1e-2)
    assert "rfid" not in found and "lpips" not in found
    assert len(found["usage"]) == len(config.tokenizer.scales)
    assert 1 <= found["usage"][0]["perplexity"] <= 11


def test_the_command_says_and_writes_every_figure(run, trained, tmp_path):
    command = ("evaluate", "tokenizer", f"--workdir={trained}", "--images=20")
    result = run(*command, f"--out={tmp_path / 'report.json'}")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == 20 and report["networks"] == {}
    assert f"psnr {report['psnr']:.6g}\n" in result.stdout
    lines = [line for line in result.stdout.splitlines() if line.startswith("scale ")]
    for number, (line, own) in enumerate(zip(lines, report["usage"], strict=True), start=1):
        share, perplexity = own["share"], own["perplexity"]
        assert line == (
            f"scale {number}: {share:.1%} of the codes occur, perplexity {perplexity:.2f}"
        )


def test_pairs_are_compared_as_they_are_published(alex):
    generator = np.random.default_rng(0)
    one, other = generator.integers(0, 256, (2, 3, 40, 36, 3), np.uint8)
    other[0] = one[0]
    found = _comparison(alex)(one, other)
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found[0], [EQUAL_PSNR, 1, 0], atol=1e-6)
    x, y = (jnp.float32(pixels) / 127.5 - 1 for pixels in (one, other))
    expected = lpips(ALEXNET, alex.params, x, y).sum(axis=1)
    np.testing.assert_allclose(found[:, 2], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1:, 0], psnr(x, y)[1:], rtol=1e-5)
    assert np.all(found[1:, 1] != ssim(x, y)[1:])  # local means enter it


def test_the_middle_of_every_image_is_taken_without_a_border(tmp_path, model):
    import PIL.Image

    for name, side in (("a", 48), ("b", 32)):
        (tmp_path / name).mkdir()
        for i in range(3):
            image = np.full((32, side, 3), 10 * i, np.uint8)
            image[:, 0] = 255
            PIL.Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    data = replace(model.config.data, name="folder", directory=str(tmp_path), augmentation="crop")
    images = SplitImages.open(data, "train", (32, 32), None)
    assert images.count == 5
    (batch,) = images.batches(8)
    assert batch.shape == (5, 32, 32, 3) and batch.dtype == np.uint8
    wide = [image for image in batch if image[0, 0, 0] != 255]
    assert 2 <= len(wide) <= 3  # of the wide ones the edge is cut off, of the others nothing
    assert images.name(2) == "folder split 'train', image 2"


def test_a_tokenizer_of_bits_tells_how_even_they_are(tmp_path):
    model = text_model()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "images.npz", pixels)
    config, params = model.config.tokenizer, model.weights.tokenizer
    found = measure_tokenizer(
        config,
        params,
        open_images(tmp_path / "images.npz"),
        Judges(),
        batch_size=2,
        report=lambda done: None,
    )
    bound = model.tokenizer.bind({"params": params})
    bits = bound.quantize(bound.encode(jnp.float32(pixels) / 127.5 - 1))
    for usage, own in zip(found["usage"], bits, strict=True):
        even = np.asarray(own, np.float64).reshape(-1, config.token_channels).mean(axis=0)
        sides = np.stack([even, 1 - even])
        entropy = -np.sum(sides * np.log(np.where(sides > 0, sides, 1)), axis=0)
        assert usage["share"] == pytest.approx(np.mean(sides > 0))
        assert usage["perplexity"] == pytest.approx(np.exp(entropy.mean()))


def test_a_directory_is_taken_where_images_are_read_from_one(monkeypatch):
    values = flags.FlagValues()
    flags.DEFINE_string("directory", None, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    values(["evaluate", "--directory=photos"])
    for name in ("folder", "jsonl", "imagenet"):
        assert tokenizer._data(Config(data=DataConfig(name=name))).directory == "photos"
    for name in ("digits", "shapes/32"):
        with pytest.raises(ValueError, match=f"--directory: got one for {name}, expected none"):
            tokenizer._data(Config(data=DataConfig(name=name)))


def test_images_too_small_for_lpips_are_refused(alex):
    images = np.zeros((2, 30, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="30 x 30 pixels, expected at least 31 x 31 for alex"):
        _comparison(alex)(images, images)
