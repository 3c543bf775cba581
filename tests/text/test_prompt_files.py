"""Prompts from lines of text or JSON, or from a folder."""

import pytest

from mvar_jax.text.prompt_files import PromptSet, read_prompt_set, read_prompts


def test_lines_of_text_are_prompts(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffa fox\r\n\nein Bär".encode())
    assert read_prompts(file) == ["a fox", "", "ein Bär"]
    file.write_text("a fox\n")
    assert read_prompt_set(file) == PromptSet(("a fox",))


def test_lines_of_json_keep_their_objects(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "a fox", "tag": "x"}\n\n{"prompt": ""}\n')
    found = read_prompt_set(file)
    assert found.prompts == ("a fox", "")
    assert found.objects == ({"prompt": "a fox", "tag": "x"}, {"prompt": ""})


def test_a_folder_has_a_prompt_in_every_text(tmp_path):
    for name, text in (("b.txt", "a fox\nin snow\n"), ("a.txt", "a dog"), ("c.json", "{}")):
        (tmp_path / name).write_text(text)
    assert read_prompt_set(tmp_path) == PromptSet(("a dog", "a fox in snow"), names=("a", "b"))


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("a.txt", b"", "is empty"),
        ("a.jsonl", b"\n", "is empty"),
        ("a.txt", b"\xff\xfe\xff", "is no text in UTF-8"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt"\n', "line 2 of .* is no JSON"),
        ("a.jsonl", b'{"text": "a"}', 'line 1 of .* has no "prompt"'),
        ("a.jsonl", b'["a"]', 'line 1 of .* has no "prompt"'),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"--prompts: .*{message}"):
        read_prompts(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no \.txt"):
        read_prompt_set(tmp_path)
