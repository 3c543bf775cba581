"""Texts as a model conditions on them: a vector for every token of a prompt."""

from collections.abc import Sequence

import flax.struct
import numpy as np

from mvar_jax.array_types import Bool, Float, Leaf
from mvar_jax.checks import check

LENGTHS = (16, 32, 64, 128, 256, 512)
"""The lengths that prompts are padded to, so that few programs are compiled."""


@flax.struct.dataclass
class TextFeatures:
    """The tokens of several prompts, each padded to one length; a pytree.

    Every prompt has at least one token, the end of the text. Padded positions hold zeros.
    """

    features: Leaf  # float32 [batch, length, width]
    mask: Leaf  # bool [batch, length], True where there is a token; tokens come first

    @property
    def lengths(self) -> Leaf:
        """How many tokens every prompt has, int32 [batch]."""
        return self.mask.sum(axis=1, dtype=np.int32)

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.features.shape[-1]

    def rows(self, index: Leaf | slice) -> "TextFeatures":
        """The prompts at these places: a slice, or an array of indices."""
        return TextFeatures(self.features[index], self.mask[index])

    def padded(self, length: int) -> "TextFeatures":
        """The same prompts on the host, padded to `length` tokens, or cut to it.

        Raises ValueError where a cut would lose tokens.
        """
        longest = int(np.max(self.lengths, initial=0))
        check(
            length >= longest,
            f"length: got {length}, expected at least the {longest} tokens of the longest prompt.",
        )
        return pack([row[:count] for row, count in self._rows()], length, self.width)

    def cut(self, length: int) -> "TextFeatures":
        """The first `length` tokens of each prompt, of shorter ones all."""
        return TextFeatures(self.features[:, :length], self.mask[:, :length])

    def tokens(self) -> Float[np.ndarray, "total width"]:
        """The features of all tokens of all prompts, without padding, float32 [total, width]."""
        return np.asarray(self.features)[np.asarray(self.mask)]

    def _rows(self):
        return zip(np.asarray(self.features), np.asarray(self.lengths))


def padded_length(longest: int) -> int:
    """The least of `LENGTHS` that holds a prompt of `longest` tokens, or that length itself."""
    return next((length for length in LENGTHS if length >= longest), longest)


def pack(rows: Sequence[Float[np.ndarray, "_ width"]], length: int, width: int) -> TextFeatures:
    """Puts prompts of different lengths together, in float32."""
    features = np.zeros((len(rows), length, width), np.float32)
    for row, own in zip(features, rows):
        row[: len(own)] = own
    return TextFeatures(features, token_mask([len(row) for row in rows], length))


def token_mask(lengths: Sequence[int], length: int) -> Bool[np.ndarray, "batch length"]:
    """True at the first `lengths[i]` of `length` positions of row i."""
    return np.arange(length) < np.asarray(lengths, np.int32)[:, None]


def join(parts: Sequence[TextFeatures]) -> TextFeatures:
    """The prompts of all parts, in order, on the host, padded to the longest part's length.

    Raises ValueError for parts of different encoders, told by their widths, and for no part.
    """
    widths = {part.width for part in parts}
    check(len(widths) == 1, f"parts: got the widths {sorted(widths)}, expected the same for all.")
    length = max(part.mask.shape[1] for part in parts)
    same = [part.padded(length) for part in parts]
    return TextFeatures(
        np.concatenate([part.features for part in same]),
        np.concatenate([part.mask for part in same]),
    )
