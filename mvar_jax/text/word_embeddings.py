"""Word embeddings as features: a small text encoder without layers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvar_jax.array_types import Float, Params
from mvar_jax.checks import check
from mvar_jax.text.features import TextFeatures, pack, padded_length
from mvar_jax.text.prompts import PromptTokenizer


@dataclass(frozen=True)
class WordEmbeddings:
    """A text encoder (see `encoder.TextEncoder`) that looks tokens up, in order.

    It knows what words mean, and nothing of what they mean together. For examples and tests that
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
        """The embeddings of every prompt's tokens, the end of the text included."""
        rows = [self.embeddings[tokens] for tokens in self.tokenizer(prompts)]
        return pack(rows, padded_length(max(map(len, rows))), self.width)
