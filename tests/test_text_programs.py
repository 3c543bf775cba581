"""The programs on a model of texts, trained for two steps on captioned scenes."""

import json

import numpy as np
import pytest
from PIL import Image

import mvar_jax
from tests.shared import made_once

PROMPT = "--prompt=a small dark red plain gear on pale green"
SMALL = (
    "--config=configs/infinity_shapes.py:runlocal",
    "--config.training.steps=2",
    "--config.data.name=shapes/64-40",
    "--config.model.depth=1",
    "--config.model.width=32",
    "--config.model.heads=2",
    "--config.tokenizer.base_channels=16",
    "--config.training.ema_decay=0.0",
)


@pytest.fixture(scope="module")
def texts(run, tmp_path_factory):
    """The working directory of a model of texts that hardly trained."""

    def train(folder):
        result = run("train", *SMALL, f"--workdir={folder}")
        assert result.returncode == 0, result.stderr

    return made_once(tmp_path_factory.getbasetemp(), "texts", train)


@pytest.fixture(scope="module")
def wide(run, texts, tmp_path_factory):
    """The file of one image, twice as wide as high, drawn for the prompt."""
    out = tmp_path_factory.mktemp("wide") / "wide.npz"
    arguments = (f"--workdir={texts}", "--columns=1", "--aspect=2:1", PROMPT, f"--out={out}")
    result = run("sample", *arguments)
    assert result.returncode == 0, result.stderr
    return out


def test_prompts_are_drawn(run, texts, wide, tmp_path):
    out = tmp_path / "grid.png"
    arguments = (f"--workdir={texts}", "--columns=2", f"--out={out}")
    result = run("sample", *arguments, PROMPT, "--prompt=", "--negative=a ball")
    assert result.returncode == 0, result.stderr
    assert "An empty prompt" in result.stdout and "Drawing 4 image(s)." in result.stdout
    with Image.open(out) as picture:
        assert picture.height > 2 * 64
    with np.load(wide) as arrays:
        assert arrays["images"].shape == (1, 48, 88, 3) and arrays["prompts"][0] == PROMPT[9:]
        assert arrays["tokens"].dtype == np.uint8


def test_stored_features_draw_what_prompts_draw(run, texts, wide, tmp_path):
    features = tmp_path / "features"
    result = run("encode_text", "--encoder=wordllama", PROMPT, f"--out={features}")
    assert result.returncode == 0, result.stderr
    out = tmp_path / "again.npz"
    arguments = (f"--workdir={texts}", "--columns=1", "--aspect=2:1", f"--out={out}")
    result = run("sample", *arguments, f"--features={features}")
    assert result.returncode == 0, result.stderr
    with np.load(wide) as a, np.load(out) as b:
        np.testing.assert_array_equal(a["images"], b["images"])


def test_the_model_in_python(texts):
    model = mvar_jax.load(texts)
    assert "texts" in repr(model) and model.image_size == (64, 64)
    images = model.sample(["a ball", "a gear"], seed=1).images
    again = model.sample("a gear", seed=1, numbers=1).images
    np.testing.assert_allclose(again[0], images[1], atol=1e-5)


def test_an_empty_prompt_draws_without_a_condition(texts):
    model = mvar_jax.load(texts)
    one, strong = (model.sample("", seed=1, guidance=g) for g in (0.0, 9.0))
    other = model.sample("a ball", seed=1, guidance=0.0)
    for a, b in zip(one.tokens, strong.tokens):
        np.testing.assert_array_equal(a, b)  # guidance leads away from the same
    assert any(np.any(a != b) for a, b in zip(one.tokens, other.tokens))
    features = model.features(["a ball", ""])
    null = np.asarray(model.weights.trunk["text"]["null_features"])
    np.testing.assert_array_equal(features.features[1, 0], null[0])
    np.testing.assert_array_equal(features.features[0], model.features("a ball").features[0])


def test_damaged_features_are_refused(run, texts, tmp_path):
    features, out = tmp_path / "features", tmp_path / "a.npz"
    assert run("encode_text", "--encoder=wordllama", PROMPT, f"--out={features}").returncode == 0
    file = features / "features.bin"
    file.write_bytes(np.full(file.stat().st_size // 4, np.nan, "<f4").tobytes())
    arguments = ("sample", f"--workdir={texts}", f"--features={features}", f"--out={out}")
    for verify, message in ((), "not all finite"), (("--verify",), "its files were changed"):
        result = run(*arguments, *verify)
        assert result.returncode == 2 and message in result.stderr, result.stderr
    assert not out.exists()


def test_captioned_data_are_checked(run, tmp_path):
    for name, colour in (("a.png", 0), ("b.png", 200)):
        Image.new("RGB", (80, 64), (colour, 0, 0)).save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text("a wall", encoding="utf-8")
    Image.new("RGB", (80, 64)).save(tmp_path / "silent.png")
    result = run(
        "check_data",
        "--config=configs/infinity_shapes.py:runlocal",
        "--config.data.name=folder",
        "--config.data.augmentation=crop",
        f"--config.data.directory={tmp_path}",
        f"--out={tmp_path / 'out'}",
    )
    assert result.returncode == 0, result.stderr
    assert "it has no caption silent.txt beside it" in result.stdout, result.stdout
    assert "height in pixels: 64 to 64" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "batch.png",
        "contact_sheet.png",
    ]


@pytest.mark.slow
def test_a_benchmark_of_texts_is_drawn(run, texts, tmp_path):
    lines, features = tmp_path / "metadata.jsonl", tmp_path / "features"
    prompts = ("a small gear", "a large ring")
    lines.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    result = run("encode_text", "--encoder=wordllama", f"--prompts={lines}", f"--out={features}")
    assert result.returncode == 0, result.stderr
    for name, given in (("encoded", ()), ("stored", (f"--features={features}",))):
        arguments = (f"--workdir={texts}", "--batch_size=4", f"--out={tmp_path / name}", *given)
        layout = (f"--prompts={lines}", "--layout=geneval")
        result = run("evaluate", "sample", *arguments, *layout)
        assert result.returncode == 0, result.stderr
    files = [path.relative_to(tmp_path / "stored") for path in (tmp_path / "stored").rglob("*.png")]
    assert len(files) == 8
    for file in files:
        one, other = (Image.open(tmp_path / name / file) for name in ("encoded", "stored"))
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


BAD = {
    "evaluation": ("evaluate sample --workdir={texts} --num=3 --out={new}", "--prompts, a file or"),
    "classes": ("sample --workdir={texts} --classes", "--classes: the model draws texts"),
    "negative": (
        "sample --workdir={texts} --prompt=a --negative=b --guidance=0 --out={new}.png",
        "negative: guidance is 0",
    ),
    "labels": ("sample --workdir={texts} --labels=1 --out={new}.png", "the model draws texts"),
    "nothing": ("sample --workdir={texts} --out={new}.png", "--prompt or --features"),
    "aspect": ("sample --workdir={texts} --prompt=a --aspect=9:1 --out={new}.png", "width:height"),
    "pixels": ("sample --workdir={texts} --prompt=a --pixels=1M --out={new}.png", "pixels"),
    "width": (
        "train --config=configs/infinity_shapes.py:runlocal --config.model.text.channels=128 "
        "--workdir={new}",
        "channels",
    ),
    "captions": (
        "train --config=configs/infinity_shapes.py:runlocal --config.data.captions=False "
        "--workdir={new}",
        "data.captions",
    ),
    "encoder": (
        "train --config=configs/infinity_shapes.py:runlocal --config.data.text_encoder=nowhere "
        "--workdir={new}",
        "nowhere",
    ),
    "judge of classes": ("judge_captions --workdir={trained} --out={new}", "got a model of class"),
    "calibration": ("calibrate --workdir={texts} --out={new}.json", "--prompts"),
}


@pytest.mark.parametrize("command, message", BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence(run, texts, trained, tmp_path, command, message):
    places = {"texts": texts, "trained": trained, "new": tmp_path / "new"}
    result = run(*command.format(**places).split())
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 2 and last.startswith("error: ") and message in last, result.stderr
    assert not list(tmp_path.glob("new*"))


@pytest.mark.slow
def test_captions_are_judged_and_policies_compared_on_them(run, texts, tmp_path):
    judged, compared = tmp_path / "judged", tmp_path / "compared"
    result = run("judge_captions", f"--workdir={texts}", "--samples=16", f"--out={judged}")
    assert result.returncode == 0, result.stderr
    figures = json.loads((judged / "judged.json").read_text("utf-8"))
    assert figures["real images"]["hue"] > 0.9 and len(figures) == 5
    assert figures["drawn, others"].keys() == {"label", "hue", "both"}
    assert Image.open(judged / "samples.png").width > 8 * 128
    result = run(
        "compare_policies",
        f"--workdir={texts}",
        f"--prompts={judged / 'prompts.txt'}",
        "--policies=sliding_window",
        "--ratios=0.5",
        "--samples=4",
        "--batch_size=4",
        f"--out={compared}",
    )
    assert result.returncode == 0, result.stderr
    report = json.loads((compared / "comparison.json").read_text("utf-8"))
    assert report["label_accuracy_real"] > 0.8
    assert all(0 <= row["accuracy"] <= 1 for row in report["rows"])
