"""Prompts to tokens, by the tokenizer that comes with an encoder's weights.

`tokenizer.json` is read by the package `tokenizers`, `spiece.model` by `sentencepiece`; both are
small, and the extra `text` installs them.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mvar_jax.array_types import Int
from mvar_jax.checks import check, first_line, install_command

MAX_LENGTH = 512
"""Tokens of the longest prompt, the end of the text included, as Infinity was trained."""
END = "</s>"
NO_PROMPT = "prompts: got none, expected at least one text; it may be empty."


def check_prompts(prompts: Any) -> None:
    """Raises ValueError for anything but a list of at least one text."""
    check(
        not isinstance(prompts, str) and all(isinstance(prompt, str) for prompt in prompts),
        f"prompts: got {str(prompts)[:80]!r}, expected a list of texts.",
    )
    check(len(prompts) > 0, NO_PROMPT)


@dataclass(frozen=True)
class PromptTokenizer:
    """Tokens of prompts: those of the text, then the end of the text."""

    end: int  # the token at the end of every prompt
    split: Callable[[str], list[int]]  # a text's tokens, without the end
    vocabulary: int
    max_length: int = MAX_LENGTH

    def __call__(self, prompts: Sequence[str]) -> list[Int[np.ndarray, "_"]]:
        """The tokens of every prompt, int32, at most `max_length` of them.

        Says in one line how many prompts were cut, and what the first of them lost. Raises
        ValueError for no prompt, and for anything but texts.
        """
        check_prompts(prompts)
        pieces = [self.split(prompt) for prompt in prompts]
        room = self.max_length - 1
        self._say_what_is_cut(prompts, [len(piece) - room for piece in pieces])
        return [np.array([*piece[:room], self.end], np.int32) for piece in pieces]

    def _say_what_is_cut(self, prompts: Sequence[str], lost: list[int]) -> None:
        cut = [i for i, count in enumerate(lost) if count > 0]
        if cut:
            logging.warning(
                "%d of %d prompts have more than %d tokens: %d tokens of %.40r are dropped, %d in "
                "all; shorten them.",
                *(len(cut), len(prompts), self.max_length, lost[cut[0]], prompts[cut[0]]),
                sum(lost[i] for i in cut),
            )


def read_prompt_tokenizer(folder: Path, *, max_length: int = MAX_LENGTH) -> PromptTokenizer:
    """The tokenizer of a folder, by the first of its files whose package is installed.

    Raises ValueError where there is no such file, where it cannot be read, and where its package
    is missing.
    """
    here = [name for name in READERS if (folder / name).is_file()]
    check(
        len(here) > 0,
        f"{folder}: holds neither {' nor '.join(READERS)}, expected the tokenizer of the weights "
        "there; copy it beside them.",
    )
    for name in here:
        package, read = READERS[name]
        if importlib.util.find_spec(package) is not None:
            return read_tokenizer_file(folder / name, read, max_length=max_length)
    raise ValueError(
        f"{folder / here[0]}: reading it needs the package {READERS[here[0]][0]}; install it by "
        f"{install_command('text')}."
    )


def read_tokenizer_file(
    file: Path,
    read: Callable[[Path], tuple[int | None, Callable[[str], list[int]], int]],
    *,
    max_length: int,
) -> PromptTokenizer:
    """A tokenizer from one file. Raises ValueError, which names it, where it cannot be read."""
    try:
        end, split, vocabulary = read(file)
    except Exception as error:  # both packages raise many kinds
        raise ValueError(
            f"{file}: not the file of a tokenizer ({first_line(error)}); fetch it again."
        ) from None
    if end is None or end < 0:
        raise ValueError(f"{file}: has no token {END}, which ends prompts; expected a T5's.")
    return PromptTokenizer(end, split, vocabulary, max_length)


def read_json(file: Path) -> tuple[int | None, Callable[[str], list[int]], int]:
    """The end, the function and the vocabulary of a `tokenizer.json`."""
    from tokenizers import Tokenizer  # noqa: PLC0415  optional

    tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def split(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    return tokenizer.token_to_id(END), split, tokenizer.get_vocab_size()


def read_sentencepiece(file: Path) -> tuple[int | None, Callable[[str], list[int]], int]:
    """The same of a `spiece.model`."""
    from sentencepiece import SentencePieceProcessor  # noqa: PLC0415  optional

    model = SentencePieceProcessor(model_proto=file.read_bytes())
    return model.eos_id(), model.encode, model.get_piece_size()


READERS = {
    "tokenizer.json": ("tokenizers", read_json),
    "spiece.model": ("sentencepiece", read_sentencepiece),
}
