"""A T5 with its tokenizer: prompts to features."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh

from mvar_jax.array_types import Params, in_32_bits
from mvar_jax.checks import check
from mvar_jax.text.features import TextFeatures, pack, padded_length, token_mask
from mvar_jax.text.prompts import PromptTokenizer
from mvar_jax.text.t5 import T5, T5Config

TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class T5Encoder:
    """A text encoder (see `encoder.TextEncoder`), made by `convert.text_encoder`.

    `params` are those of `T5`, split over `mesh` if there is one.
    """

    name: str
    config: T5Config
    params: Params
    tokenizer: PromptTokenizer
    mesh: Mesh | None = None

    def __post_init__(self):
        check(
            self.tokenizer.vocabulary <= self.config.vocabulary,
            f"{self.name}: its tokenizer has {self.tokenizer.vocabulary} tokens, but its weights "
            f"have {self.config.vocabulary}; copy the tokenizer of these weights there.",
        )

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.config.width

    @property
    def max_length(self) -> int:
        """Tokens of the longest prompt."""
        return self.tokenizer.max_length

    @in_32_bits
    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """The features of every prompt; see `TextEncoder`.

        A prompt is computed at the padded length that it needs, whatever the others need, with
        others of that length, `TOKENS_AT_ONCE` at most. Batches are padded to 1, 2, 4, ... prompts.
        """
        tokens = self.tokenizer(prompts)
        needed = np.array([padded_length(len(row)) for row in tokens])
        rows = [np.empty(0)] * len(tokens)
        for length in np.unique(needed).tolist():
            places = np.flatnonzero(needed == length)
            count = _at_once(length)
            for part in np.split(places, range(count, len(places), count)):
                for place, row in zip(part, self._run([tokens[i] for i in part], length)):
                    rows[place] = row
        return pack(rows, int(needed.max()), self.width)

    def _run(self, rows: list[np.ndarray], length: int) -> list[np.ndarray]:
        """The features `[its length, width]` of prompts that are computed together."""
        size = 1 << (len(rows) - 1).bit_length()
        lengths = [len(row) for row in rows] + [1] * (size - len(rows))
        tokens = np.zeros((size, length), np.int32)
        for target, row in zip(tokens, rows):
            target[: len(row)] = row
        with nullcontext() if self.mesh is None else jax.set_mesh(self.mesh):
            made = np.asarray(_apply(self.config, self.params, tokens, token_mask(lengths, length)))
        return [row[:count] for row, count in zip(made, lengths[: len(rows)])]


@partial(jax.jit, static_argnums=0)
def _apply(config, params, tokens, mask):
    """The features of a batch, float32 [batch, n, width]."""
    return T5(config).apply({"params": params}, tokens, mask)


def _at_once(length: int) -> int:
    """How many prompts of a padded length are computed together: a power of two."""
    return 1 << (max(1, TOKENS_AT_ONCE // length).bit_length() - 1)
