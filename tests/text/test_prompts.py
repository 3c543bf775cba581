"""Prompts to tokens, by both kinds of tokenizer files."""

import importlib.util
import inspect

import numpy as np
import pytest
from absl import logging

from mvar_jax.text.prompts import PromptTokenizer, read_prompt_tokenizer
from tests.text.builders import SENTENCES, write_json, write_sentencepiece

WRITERS = {"tokenizer.json": write_json, "spiece.model": write_sentencepiece}


@pytest.fixture(scope="module", params=WRITERS)
def folder(request, tmp_path_factory):
    made = tmp_path_factory.mktemp("tokenizer")
    WRITERS[request.param](made)
    return made


def test_a_prompt_is_its_pieces_and_the_end(folder):
    tokenizer = read_prompt_tokenizer(folder)
    assert tokenizer.end == 1 and tokenizer.max_length == 512
    first, longer, again, empty = tokenizer([SENTENCES[0], " ".join(SENTENCES), SENTENCES[0], ""])
    np.testing.assert_array_equal(first, again)
    assert empty.tolist() == [1] and empty.dtype == np.int32
    assert first[-1] == 1 and 1 not in first[:-1] and 0 not in first and len(first) > 7
    assert len(longer) > 50 and longer.max() < tokenizer.vocabulary


def test_the_two_kinds_split_known_words_alike(tmp_path):
    """Whole words where both learned them, as far as the tiny vocabularies go."""
    for name, write in WRITERS.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    one, other = (read_prompt_tokenizer(tmp_path / name)([" a  a "])[0] for name in WRITERS)
    assert one[-1] == other[-1] == 1


def test_what_is_too_long_is_cut_and_said_once(folder, monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *rest: said.append(text % rest))
    tokenizer = read_prompt_tokenizer(folder, max_length=5)
    whole = read_prompt_tokenizer(folder)([SENTENCES[0], "a", SENTENCES[1]])
    cut = tokenizer([SENTENCES[0], "a", SENTENCES[1]])
    assert [len(row) for row in cut] == [5, len(whole[1]), 5] and cut[0][-1] == 1
    np.testing.assert_array_equal(cut[0][:4], whole[0][:4])
    lost = [len(whole[0]) - 5, len(whole[2]) - 5]
    (sentence,) = said
    assert "2 of 3 prompts have more than 5 tokens" in sentence
    assert f"{lost[0]} tokens of 'a red ball" in sentence and f"{sum(lost)} in all" in sentence


def test_what_is_no_list_of_texts_is_refused(folder):
    tokenizer = read_prompt_tokenizer(folder)
    call = inspect.unwrap(PromptTokenizer.__call__)  # without the tests' own check of types
    for prompts, word in (("a cat", "expected a list"), ([b"a"], "expected a list"), ([], "none")):
        with pytest.raises(ValueError, match=word):
            call(tokenizer, prompts)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds neither tokenizer\.json nor spiece\.model"):
        read_prompt_tokenizer(tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_are_named(name, tmp_path):
    for content in (b"", b"{}", b"<html>", b"\xff\xfe\x00"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"{name}: (not the file of a tokenizer|has no token)"
        ):
            read_prompt_tokenizer(tmp_path)


def test_a_missing_package_is_named_and_the_other_file_taken(folder, tmp_path, monkeypatch):
    name = next(path.name for path in folder.iterdir() if path.name in WRITERS)
    missing = {"tokenizer.json": "tokenizers", "spiece.model": "sentencepiece"}[name]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda package: None if package == missing else find(package)
    )
    with pytest.raises(ValueError, match=rf"needs the package {missing}; .* -e '.\[text\]'"):
        read_prompt_tokenizer(folder)
    for write in WRITERS.values():
        write(tmp_path)
    assert read_prompt_tokenizer(tmp_path)(["a"])[0][-1] == 1
