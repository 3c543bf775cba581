"""Word embeddings as features: a small text encoder without layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mvar_jax.array_types import Float, Params
from mvar_jax.checks import check
from mvar_jax.text.features import TextFeatures, pack, padded_length
from mvar_jax.text.prompts import PromptTokenizer


@dataclass(frozen=True)
class WordEmbeddings:
    """A text encoder (see `encoder.TextEncoder`) that looks tokens up, in order.

    It knows what words mean and where they stand, and nothing of what they mean together: an
    embedding is added to a sinusoid of its place as in arXiv 1706.03762, of the same mean square as
    an embedding, so that "red on green" is not "green on red". For examples and tests that
    need no download: `convert.text_encoder` reads those of the package `wordllama`.
    """

    name: str
    embeddings: Float[np.ndarray, "vocab width"]
    tokenizer: PromptTokenizer

    def __post_init__(self):
        rows = self.embeddings.shape[0]
        check(
            self.tokenizer.vocabulary <= rows,
            f"{self.name}: its tokenizer has {self.tokenizer.vocabulary} tokens, but there are "
            f"{rows} embeddings; install the package again.",
        )

    @property
    def params(self) -> Params:
        """Its weights, by name."""
        return {"token_embedding": self.embeddings}

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.embeddings.shape[1]

    @property
    def max_length(self) -> int:
        """Tokens of the longest prompt."""
        return self.tokenizer.max_length

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """The features of every prompt's tokens, the end of the text included."""
        tokens = self.tokenizer(prompts)
        length = padded_length(max(map(len, tokens)))
        places = _sinusoids(length, self.width) * self._scale
        rows = [self.embeddings[one] + places[: len(one)] for one in tokens]
        return pack(rows, length, self.width)

    @cached_property
    def _scale(self) -> np.float32:
        """What gives a sinusoid, whose mean square is 1/2, that of the embeddings."""
        return np.sqrt(2 * np.mean(np.square(self.embeddings), dtype=np.float32))


def _sinusoids(length: int, width: int) -> Float[np.ndarray, "length width"]:
    """Sines and cosines of the places, with wave lengths from 2 pi to 20,000 pi tokens."""
    frequencies = 1e4 ** -(np.arange(0, width, 2) / width)
    angles = np.arange(length)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :width].astype(np.float32)
