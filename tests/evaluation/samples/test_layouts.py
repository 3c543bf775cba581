"""Prompts of benchmarks, and the files that their evaluators look for."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mvar_jax.evaluation.samples import SampleDrawing, make_layout
from mvar_jax.pictures.pixels import to_uint8
from mvar_jax.text import read_features, write_features
from mvar_jax.text.prompt_files import PromptSet, read_prompt_set
from tests.evaluation.samples.tiny import drawing, text_model, write

TEXTS = ("a photo of a bench", "", "a red ball above a green ball on a table")


@pytest.fixture(scope="module")
def model():
    return text_model()


@pytest.fixture
def metadata(tmp_path):
    """A file as GenEval's `evaluation_metadata.jsonl`."""
    file = tmp_path / "evaluation_metadata.jsonl"
    lines = [json.dumps({"tag": "single_object", "include": [], "prompt": text}) for text in TEXTS]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def folder(tmp_path):
    """A folder as DPG-Bench's `prompts`."""
    path = tmp_path / "prompts"
    path.mkdir()
    for name, text in zip(("partiprompts7", "COCOval2014_000000000164", "stanford_1"), TEXTS):
        (path / f"{name}.txt").write_text(f"{text}\n")
    return path


def samples(model, name, prompts, count=None, batch=4, **settings):
    layout, count = make_layout(name, prompts=prompts, count=count, png=False)
    return drawing(model, layout=layout, count=count, batch=batch, **settings)


def expected(model, texts, **settings):
    """Pixels of texts by the model itself; the numbers are their places."""
    return to_uint8(model.sample(list(texts), **settings).images).astype(int)


def read(file):
    return np.asarray(Image.open(file), int)


def test_geneval_finds_four_pictures_and_the_line_of_every_prompt(model, metadata, tmp_path):
    out = tmp_path / "out"
    write(samples(model, "geneval", read_prompt_set(metadata), batch=5), out)
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    pictures = [f"{p:05d}/samples/{s:04d}.png" for p in range(3) for s in range(4)]
    lines = [f"{prompt:05d}/metadata.jsonl" for prompt in range(3)]
    assert made == sorted([*pictures, *lines, "manifest.json"])
    assert [json.loads((out / line).read_text())["prompt"] for line in lines] == list(TEXTS)
    shown = np.stack([read(out / picture) for picture in pictures])
    wanted = expected(model, [text for text in TEXTS for _ in range(4)])
    np.testing.assert_allclose(shown, wanted, atol=1)
    assert write(samples(model, "geneval", read_prompt_set(metadata), batch=5), out) is None


def test_dpg_finds_a_square_of_four_by_the_name_of_the_prompt(model, folder, tmp_path):
    out = tmp_path / "out"
    prompts = read_prompt_set(folder)
    assert prompts.names[0].startswith("COCO") and prompts.prompts[0] == ""
    write(samples(model, "dpg", prompts, batch=8), out)
    assert sorted(path.stem for path in (out / "images").iterdir()) == list(prompts.names)
    wanted = expected(model, [text for text in prompts.prompts for _ in range(4)])
    for place, name in enumerate(prompts.names):
        shown = read(out / "images" / f"{name}.png")
        cut = [shown[y : y + 8, x : x + 8] for y in (0, 8) for x in (0, 8)]
        np.testing.assert_allclose(np.stack(cut), wanted[4 * place : 4 * place + 4], atol=1)


def test_an_archive_has_all_prompts_in_turn_whatever_the_features_come_from(model, tmp_path):
    prompts, settings = PromptSet(TEXTS), {"negative": "a dog", "seed": 3}
    write_features(tmp_path / "features", model.text_encoder, [*TEXTS, "a dog"])
    stored = replace(model, text_encoder=read_features(tmp_path / "features"))
    made = []
    for name, reader in (("prompts", model), ("features", stored)):
        write(samples(reader, "adm", prompts, count=7, **settings), tmp_path / name / "out")
        made.append(np.load(tmp_path / name / "out" / "samples.npz")["arr_0"])
        files = {path.name for path in (tmp_path / name / "out").iterdir()}
        assert files == {"samples.npz", "manifest.json"}
    np.testing.assert_array_equal(*made)
    wanted = expected(model, [TEXTS[number % 3] for number in range(7)], **settings)
    np.testing.assert_allclose(made[0].astype(int), wanted, atol=1)


def test_resumed_texts_are_not_encoded_again(model, tmp_path, monkeypatch):
    def stop(self, numbers):
        raise KeyboardInterrupt

    given = samples(model, "adm", PromptSet(TEXTS), count=7)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SampleDrawing, "draw", stop)
        write(given, tmp_path / "out")
    assert read_features(tmp_path / "out" / "features").prompts == TEXTS
    monkeypatch.setattr("mvar_jax.evaluation.samples.drawing.write_features", None)
    write(given, tmp_path / "out")


def refuse(model, message, *arguments, out=None, **settings):
    with pytest.raises(ValueError, match=message):
        write(samples(model, *arguments, **settings), out)


def test_what_does_not_fit_is_refused(model, metadata, folder, tmp_path):
    lines, named = read_prompt_set(metadata), read_prompt_set(folder)
    refuse(model, "expected --prompts=evaluation_metadata.jsonl", "geneval", named)
    refuse(model, "expected --prompts=FOLDER", "dpg", lines)
    refuse(model, "leave out --num", "geneval", lines, 5)
    refuse(model, "--num is missing", "adm", lines)
    refuse(model, "--batch_size: got 6, expected a multiple of 4", "dpg", named, batch=6)
    wide = replace(model.config.tokenizer, image_size=(8, 12), scales=((1, 1), (2, 3)))
    sampler = replace(model.sampler, schedule=wide.schedule)
    refuse(replace(model, sampler=sampler), "12 x 8 pixels, expected squares", "dpg", named)
    refuse(replace(model, text_encoder=None), "the model has no text encoder", "adm", lines, 5)
    refuse(model, "--negative: guidance is 0", "adm", lines, 5, negative="a", guidance=0.0)


def test_long_texts_are_refused_before_the_first_image(model, tmp_path, monkeypatch):
    monkeypatch.setattr(SampleDrawing, "draw", None)
    prompts, out = PromptSet(("a", "word " * 40)), tmp_path / "out"
    refuse(model, "got one of 41 tokens, expected 1 to 32", "adm", prompts, 5, out=out)


def test_one_of_other_prompts_is_refused_in_a_folder_that_is_begun(model, tmp_path):
    write(samples(model, "adm", PromptSet(TEXTS), count=7), tmp_path / "out")
    refuse(model, "holds samples of", "adm", PromptSet(TEXTS[:2]), 7, out=tmp_path / "out")
