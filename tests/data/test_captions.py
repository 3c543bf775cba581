"""Captioned images: of scenes, folders and JSON lines, and batches of one aspect ratio each."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mvar_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig
from mvar_jax.data.aspect_batches import AspectBatches, by_aspect
from mvar_jax.data.caption_choice import choose_caption
from mvar_jax.data.pipeline import eval_batches, train_batches
from mvar_jax.data.scene_captions import describe, is_held_out
from mvar_jax.data.scenes import CLASSES, HUES, draw_scene
from mvar_jax.data.source import load_source
from mvar_jax.scales import ScaleSchedule


def paint(path, size, color=(200, 10, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def test_scenes_are_described_by_what_is_drawn():
    assert describe(draw_scene(0, 0)).split()[5] == "ball"
    words = Counter(word for i in range(200) for word in describe(draw_scene(0, i)).split())
    assert {*CLASSES, *HUES, "small", "medium", "large", "striped", "pale", "deep"} <= set(words)


def test_each_class_lacks_few_hues_and_all_hues_are_seen():
    held = {(label, hue) for label in range(10) for hue in HUES if is_held_out(label, hue)}
    assert len(held) == 10 and {label for label, _ in held} == set(range(10))
    assert {hue for _, hue in held} == set(HUES)


def test_captioned_scenes_lack_what_is_held_out(tmp_path):
    source = load_source("shapes/16-60", "train", str(tmp_path), captions=True)
    plain = load_source("shapes/16-60", "train", str(tmp_path))
    captions = [example["caption"] for example in source]
    assert 40 <= len(source) < len(plain) == 60
    for caption in captions:
        words = caption.split()
        assert not is_held_out(CLASSES.index(words[5]), words[3])
    images = {plain[i]["image"].tobytes() for i in range(60)}
    assert all(example["image"].tobytes() in images for example in source)


def test_a_folder_with_captions_beside_its_images(tmp_path, caplog):
    for i in range(40):
        paint(tmp_path / f"some/{i}.png", (8, 8))
        (tmp_path / f"some/{i}.txt").write_text(f" number {i}\n")
    (tmp_path / "some/3.txt").unlink()
    (tmp_path / "some/4.txt").write_text("")
    both = [load_source("folder", s, str(tmp_path), captions=True) for s in ("train", "validation")]
    assert sum(map(len, both)) == 40 and len(both[1]) > 0
    captions = {source[i]["caption"] for source in both for i in range(len(source))}
    assert captions <= {f"number {i}" for i in range(40)} and "number 5" in captions
    assert not {"number 3", "number 4", ""} & captions
    with pytest.raises(ValueError, match="no split"):
        load_source("folder", "test", str(tmp_path), captions=True)
    with pytest.raises(ValueError, match="has none"):
        load_source("digits", "train", str(tmp_path), captions=True)


def lines(folder, ratios):
    rows = []
    for i, (height, width) in enumerate(ratios):
        paint(folder / f"images/{i}.png", (width, height))
        row = {"image_path": f"images/{i}.png", "h_div_w": height / width}
        rows.append(row | {"long_caption": f"Number {i} is here. It is red.", "text": f"no. {i}"})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "1.000_000000060.jsonl").write_text(text)


def test_json_lines(tmp_path):
    lines(tmp_path, [(8, 8)] * 60)
    data = DataConfig(name="jsonl", directory=str(tmp_path), captions=True, num_threads=0)
    (batch, *_) = eval_batches(data, (8, 8), 1, split="validation")
    assert batch["image"].shape == (1, 8, 8, 3) and set(batch) == {"image", "caption"}
    short = DataConfig(**{**vars(data), "short_caption_rate": 1.0})
    batch = next(iter(train_batches(short, (8, 8), 4, seed=0)))
    assert all(caption.startswith("no. ") for caption in batch["caption"])
    row = {"image_path": "images/0.png", "h_div_w": 1.0}
    silent = [json.dumps(row | {"long_caption": text}) for text in ("", "--ar 1:1", None)]
    for text, message in (
        *((text, "line 1") for text in silent),
        ("{}\n", "line 1"),
        ("nothing\n", "line 1"),
        ("", "empty"),
    ):
        (tmp_path / "1.000_000000060.jsonl").write_text(text)
        with pytest.raises(ValueError, match=message):
            load_source("jsonl", "train", str(tmp_path), captions=True)


def test_several_lines_of_an_image_are_several_captions(tmp_path):
    lines(tmp_path, [(8, 8)] * 60)
    more = [
        {"image_path": f"images/{i}.png", "h_div_w": 1.0, "long_caption": "More."} for i in (3, 4)
    ]
    text = "".join(json.dumps(row) + "\n" for row in more)
    (tmp_path / "2.jsonl").write_text(text)
    found = [
        (source.records.describe(i), source[i]["caption"])
        for source in (
            load_source("jsonl", split, str(tmp_path), captions=True)
            for split in ("train", "validation")
        )
        for i in range(len(source))
    ]
    assert len(found) == 62
    assert {("images/3.png", "More."), ("images/3.png", "Number 3 is here. It is red.")} <= set(
        found
    )


def test_a_line_that_names_a_missing_image_is_passed_over(tmp_path, caplog):
    lines(tmp_path, [(8, 8)] * 60)
    (tmp_path / "images/7.png").unlink()
    sources = [
        load_source("jsonl", s, str(tmp_path), captions=True) for s in ("train", "validation")
    ]
    assert all(
        source[i]["image"].shape == (8, 8, 3) for source in sources for i in range(len(source))
    )
    assert any("images/7.png" in message for message in caplog.messages)


def test_captions_are_chosen_by_sentences():
    long = "One two. Three four five. Six. --ar 3:2"
    seen = {choose_caption(long, None, 0.5, np.random.default_rng(i)) for i in range(50)}
    assert seen == {"One two. Three four five.", "One two. Three four five. Six."}
    assert choose_caption(long, "brief", 1.0, np.random.default_rng(0)) == "brief"
    seen = {choose_caption(long, "Brief.", 0.0, np.random.default_rng(i)) for i in range(50)}
    assert seen == {"One two. Three four five.", "One two. Three four five. Six."}
    assert choose_caption(long, "brief --ar 3:2", 1.0, np.random.default_rng(0)) == "brief"
    first = "word " * 15 + "end."
    assert choose_caption(f"{first} More.", None, 1.0, np.random.default_rng(0)) == first


def test_batches_hold_one_ratio_and_an_epoch_all_of_them():
    def read(source, first):
        numbers = map(np.array, range(first, 10**6))
        return ({"source": np.array(source), "number": number} for number in numbers)

    batches = AspectBatches(read, [41, 22, 3], 4, seed=1, first=0)
    drawn = [next(batches) for _ in range(45)]
    for epoch in range(3):
        own = drawn[15 * epoch : 15 * (epoch + 1)]
        for source, count in enumerate((10, 5, 0)):
            numbers = [batch["number"] for batch in own if batch["source"] == source]
            assert numbers == list(range(epoch * count, (epoch + 1) * count))
    assert [b["source"] for b in drawn[:15]] != [b["source"] for b in drawn[15:30]]
    resumed = AspectBatches(read, [41, 22, 3], 4, seed=1, first=20)
    assert [next(resumed) for _ in range(25)] == drawn[20:]
    with pytest.raises(ValueError, match="expected at least a batch"):
        AspectBatches(read, [3, 2], 4, seed=1, first=0)


def test_images_belong_to_the_nearest_ratio(tmp_path):
    lines(tmp_path, [(8, 8), (12, 8), (13, 8), (8, 16)] * 15)
    source = load_source("jsonl", "train", str(tmp_path), captions=True)
    square, tall = by_aspect(source, [1.0, 1.5])
    assert len(square) + len(tall) == len(source)
    assert {tall[i]["image"].shape[:2] for i in range(len(tall))} == {(12, 8), (13, 8)}


def test_schedules_of_a_config():
    tokenizer = TokenizerConfig(
        quantizer="bsq",
        image_size=(64, 64),
        scales=ScaleSchedule.squares(1, 2, 4).sizes,
        attention=False,
        code_channels=4,
    )
    data = DataConfig(name="jsonl", aspects=("1.5", "0.666"))
    model = ModelConfig(positions="rotary")
    schedules = Config(tokenizer=tokenizer, data=data, model=model).schedules
    assert list(schedules) == [(64, 64), (80, 48), (48, 80)]
    with pytest.raises(ValueError, match="learned positions"):
        Config(tokenizer=tokenizer, data=data)
    with pytest.raises(ValueError, match="same size"):
        Config(tokenizer=tokenizer, data=DataConfig(name="jsonl", aspects=("1",)), model=model)
    with pytest.raises(ValueError, match="jsonl"):
        DataConfig(aspects=("1.5",))
