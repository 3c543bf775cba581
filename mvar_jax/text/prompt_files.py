"""Prompts from files: a text with one a line, JSON lines, or a folder with a file for each.

captions.txt            a prompt in every line; an empty line is the empty prompt
metadata.jsonl          an object in every line, whose "prompt" it is (as GenEval has them)
prompts/                a text in every .txt, in the order of their names (as DPG has them)
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvar_jax.checks import check, first_line
from mvar_jax.files import parse_json

LINES, FOLDER = ".jsonl", ".txt"


@dataclass(frozen=True)
class PromptSet:
    """Prompts in order, with what came with each: an object of JSON, or the name of its file."""

    prompts: tuple[str, ...]
    objects: tuple[dict[str, Any], ...] = ()
    names: tuple[str, ...] = ()


def read_prompts(path: Path) -> list[str]:
    """The prompts of `read_prompt_set` alone."""
    return list(read_prompt_set(path).prompts)


def read_prompt_set(path: Path) -> PromptSet:
    """The prompts of a file or folder, as its name says which.

    Raises ValueError for anything but text in UTF-8, for none, and for lines of JSON without a
    prompt; OSError where there is nothing.
    """
    if path.is_dir():
        found = _read_folder(path)
    else:
        text = _read_text(path)
        lines = text.removesuffix("\n").split("\n") if text else []
        found = _read_objects(path, lines) if path.suffix.lower() == LINES else _plain(lines)
    lacks = f"holds no {FOLDER}" if path.is_dir() else "is empty"
    check(len(found.prompts) > 0, f"--prompts: {path} {lacks}, expected at least one prompt.")
    return found


def _plain(lines: list[str]) -> PromptSet:
    return PromptSet(tuple(line.rstrip("\r") for line in lines))


def _read_objects(path: Path, lines: list[str]) -> PromptSet:
    """What every line of JSON says; empty lines are passed over."""
    objects = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except ValueError as error:
            raise ValueError(
                f"--prompts: line {number} of {path} is no JSON ({first_line(error)}); expected an "
                'object a line, with the text as its "prompt".'
            ) from None
        sound = isinstance(value, dict) and isinstance(value.get("prompt"), str)
        check(
            sound,
            f'--prompts: line {number} of {path} has no "prompt", expected an object with one.',
        )
        objects.append(value)
    return PromptSet(tuple(value["prompt"] for value in objects), objects=tuple(objects))


def _read_folder(folder: Path) -> PromptSet:
    files = sorted(folder.glob(f"*{FOLDER}"))
    prompts = tuple(" ".join(_read_text(file).split()) for file in files)
    return PromptSet(prompts, names=tuple(file.stem for file in files))


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"--prompts: {file} is no text in UTF-8; save it as such.") from None
