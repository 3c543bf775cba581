import dataclasses
import json

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from mvar_jax.config import DataConfig
from mvar_jax.data.pipeline import batched, eval_token_records, train_batches
from mvar_jax.data.token_manifest import MANIFEST, PLAN, Shard, TokenManifest, claim
from mvar_jax.data.token_record import TokenRecord
from mvar_jax.data.token_source import TokenSource
from mvar_jax.files import draft_of, file_checksum
from tests.training.tiny import CONFIG

TOKENIZER = CONFIG.tokenizer  # 5 tokens of a vocabulary of 16
PLANNED = TokenManifest(
    tokenizer_checksum="abc" * 20,
    tokenizer=TOKENIZER,
    data=DataConfig(name="photos"),
    split="train",
    examples=20,
    crops=2,
    seed=0,
    class_names=("cat", "dog"),
)


def pyramids(index):
    """The two crops of an image, which tell which it is."""
    return np.array([[index % 16, crop, 0, 0, 15] for crop in range(2)], np.int32)


def write(directory, counts=(7, 8, 5)):
    """Tokens of 20 images, in three shards."""
    shards, index = [], 0
    directory.mkdir()
    for number, count in enumerate(counts):
        file = directory / f"tokens-{number:05d}-of-{len(counts):05d}.array_record"
        writer = ArrayRecordWriter(str(file), "group_size:1")
        for index in range(index, index + count):
            writer.write(PLANNED.record.pack(pyramids(index), index % 2))
        index += 1
        writer.close()
        shards.append(Shard(file.name, count, file_checksum(file)))
    dataclasses.replace(PLANNED, shards=tuple(shards)).save(directory / MANIFEST)
    return directory


@pytest.fixture
def tokens(tmp_path):
    return write(tmp_path / "tokens")


def message(action):
    with pytest.raises(ValueError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def edit(directory, **changes):
    file = directory / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("vocabulary,bytes_per_token", [(4096, 2), (2**16, 2), (2**16 + 1, 4)])
def test_records_are_compact_and_come_back(vocabulary, bytes_per_token):
    record = TokenRecord(crops=2, total=5, vocabulary=vocabulary, num_classes=70_000)
    tokens = np.random.default_rng(0).integers(0, vocabulary, (2, 5), np.int32)
    tokens[0, 0] = vocabulary - 1
    packed = record.pack(tokens, 69_999)
    assert len(packed) == 4 + 10 * bytes_per_token
    unpacked = record.unpack(packed)
    np.testing.assert_array_equal(unpacked["tokens"], tokens)
    assert unpacked["tokens"].dtype == unpacked["label"].dtype == np.int32
    assert unpacked["label"] == 69_999


@pytest.mark.parametrize(
    "packed,expected",
    [
        (b"", "it has 0 bytes, expected 14"),
        (b"\2\0\0\0" + bytes(10), "its label is 2, of 2 classes"),
        (bytes(4) + b"\x10\0" + bytes(8), "it has a token 16, of a vocabulary of 16"),
    ],
)
def test_records_that_cannot_be_are_refused(packed, expected):
    with pytest.raises(ValueError, match=expected):
        TokenRecord(crops=1, total=5, vocabulary=16, num_classes=2).unpack(packed)


def test_a_source_reads_all_shards_in_order(tokens):
    source = TokenSource(str(tokens))
    assert len(source) == 20 and source.class_names == ("cat", "dog") and source.num_classes == 2
    for index, example in enumerate(source):
        np.testing.assert_array_equal(example["tokens"], pyramids(index))
        assert example["label"] == index % 2
    source.check(TOKENIZER, ("other", PLANNED.tokenizer_checksum))


@pytest.mark.parametrize("threads,workers", [(0, 0), (4, 0)])
def test_batches_hold_one_crop_of_every_image_drawn_anew(tokens, threads, workers):
    data = DataConfig(tokens=str(tokens), num_threads=threads, num_workers=workers)
    iterator = iter(train_batches(data, (8, 8), 20, seed=0))
    epochs = [next(iterator) for _ in range(6)]
    for batch in epochs:
        assert batch["tokens"].shape == (20, 5) and batch["tokens"].dtype == np.int32
        assert sorted(batch["tokens"][:, 0].tolist()) == sorted(k % 16 for k in range(20))
        assert sorted(batch) == ["label", "tokens"]
    crops = np.stack([batch["tokens"][np.argsort(batch["tokens"][:, 0]), 1] for batch in epochs])
    assert {0, 1} == set(crops.ravel().tolist()) and len(np.unique(crops, axis=0)) > 1
    again = iter(train_batches(data, (8, 8), 20, seed=0))
    again.set_state(json.loads(json.dumps(iterator.get_state())))
    np.testing.assert_array_equal(next(again)["tokens"], next(iterator)["tokens"])


def test_validation_reads_the_first_crops_in_order(tokens):
    data = DataConfig(validation_tokens=str(tokens))
    batches = list(batched(eval_token_records(data), 8, data))
    assert [len(batch["label"]) for batch in batches] == [8, 8, 4]
    found = np.concatenate([batch["tokens"] for batch in batches])
    np.testing.assert_array_equal(found, [pyramids(index)[0] for index in range(20)])


def test_tokens_of_another_tokenizer_are_refused(tokens):
    source, digest = TokenSource(str(tokens)), (PLANNED.tokenizer_checksum,)
    other = dataclasses.replace(TOKENIZER, vocabulary=32)
    assert "tokenizer.vocabulary=16, expected 32" in message(lambda: source.check(other, digest))
    other = dataclasses.replace(TOKENIZER, scales=((2, 2),))
    assert "tokenizer.scales=((1, 1), (2, 2))" in message(lambda: source.check(other, digest))
    text = message(lambda: source.check(TOKENIZER, ("def" * 20,)))
    assert "made by another tokenizer" in text and "abcabc" in text and "defdef" in text


def test_every_change_of_a_shard_is_found(tokens):
    file = tokens / "tokens-00001-of-00003.array_record"
    content = bytearray(file.read_bytes())
    for place in range(0, len(content), len(content) // 7):
        content[place] ^= 1
        file.write_bytes(content)
        text = message(
            lambda: TokenSource(str(tokens)).check(TOKENIZER, (PLANNED.tokenizer_checksum,))
        )
        assert str(tokens) in text and "is damaged" in text
        content[place] ^= 1


def test_missing_and_cut_shards_are_refused(tokens):
    file = tokens / "tokens-00001-of-00003.array_record"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert "a shard is damaged" in message(lambda: TokenSource(str(tokens)))
    file.unlink()
    assert "a shard is damaged" in message(lambda: TokenSource(str(tokens)))


def test_an_incomplete_directory_is_refused(tmp_path):
    text = message(lambda: TokenSource(str(tmp_path)))
    assert "manifest.json: found no such file" in text and "run it again" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"shards": [{"file": "../../etc/passwd", "records": 20, "sha256": ""}]},
        {"shards": [{"file": 3, "records": 20, "sha256": ""}]},
        {"shards": "all"},
        {"crops": "two"},
        {"tokenizer": {"vocabulary": 0}},
        {"more": 1},
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(tokens, changes):
    edit(tokens, **changes)
    assert "manifest.json: is damaged" in message(lambda: TokenSource(str(tokens)))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(tokens, text):
    (tokens / MANIFEST).write_text(text)
    assert "manifest.json: is damaged" in message(lambda: TokenSource(str(tokens)))


def test_records_of_another_form_than_the_manifests_are_refused(tokens):
    edit(tokens, crops=1)
    source = TokenSource(str(tokens))
    assert "record 0 is damaged (it has 24 bytes" in message(lambda: source[0])


def test_a_manifest_without_records_is_refused(tokens):
    edit(tokens, shards=[])
    assert "holds no tokens" in message(lambda: TokenSource(str(tokens)))


def test_a_folder_is_claimed_once_and_for_one_tokenization(tmp_path, tokens):
    folder = tmp_path / "deep" / "new"
    assert claim(folder, PLANNED) is None
    assert claim(folder, PLANNED) is None
    other = dataclasses.replace(PLANNED, crops=3)
    before = (folder / PLAN).read_bytes()
    assert "made with crops=2, got 3; name another" in message(lambda: claim(folder, other))
    assert (folder / PLAN).read_bytes() == before
    assert claim(tokens, PLANNED).records == 20
    assert "made with crops=2, got 3" in message(lambda: claim(tokens, other))


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    assert "holds something else" in message(lambda: claim(tmp_path, PLANNED))
    assert "holds something else" in message(lambda: claim(tmp_path / "letter.txt", PLANNED))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_claim_that_was_interrupted_can_be_repeated(tmp_path):
    draft_of(tmp_path / PLAN).write_text("{")
    assert claim(tmp_path, PLANNED) is None
    assert [path.name for path in tmp_path.iterdir()] == [PLAN]
