"""Metrics of tokens."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from mvar_jax.array_types import HostArray
from mvar_jax.checks import check


def exact_copies(
    samples: Sequence[Integer[HostArray, "batch ..."]],
    training: Sequence[Integer[HostArray, "references ..."]],
) -> int:
    """How many samples have the same tokens as a training image at every scale.

    Both are token pyramids: one array for each scale, [batch, n] (or [batch, n, bits]). Raises
    ValueError when the pyramids have different scales.
    """
    shapes = [[scale.shape[1:] for scale in pyramid] for pyramid in (samples, training)]
    check(
        shapes[0] == shapes[1],
        f"evaluation: got samples of token maps {shapes[0]} and training images of {shapes[1]}, "
        "expected the same; use the tokenizer that the samples were made with.",
    )
    known = set(_rows(training))
    return sum(row in known for row in _rows(samples))


def codebook_usage(
    pyramid: Sequence[Integer[HostArray, "batch _"]], vocabulary: int
) -> list[dict[str, float]]:
    """How much of the codebook each scale uses: `{"share": ..., "perplexity": ...}` per scale.

    `pyramid` holds one array of tokens per scale. The share is that of the `vocabulary` codes that
    occur, from 0 to 1; the perplexity is exp of the entropy of their frequencies in nats. Raises
    ValueError for an empty array or tokens outside of the vocabulary.
    """
    counts = [_count(np.asarray(tokens), vocabulary) for tokens in pyramid]
    return usage_of_counts(np.stack(counts)[:, None])


def usage_of_counts(counts: Integer[HostArray, "scales symbols values"]) -> list[dict[str, float]]:
    """The same from how often every value occurs, for each scale.

    A token may have several symbols, as bits, of which shares are averaged, and entropies: one code
    of a vocabulary, or bits of two values each, with a perplexity from 1 to 2.
    """
    return [_usage(scale) for scale in np.asarray(counts)]


def _count(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    check(tokens.size > 0, "evaluation: got no tokens, expected at least one a scale.")
    low, high = int(tokens.min()), int(tokens.max())
    check(
        low >= 0 and high < vocabulary,
        f"evaluation: got tokens from {low} to {high}, expected 0 to {vocabulary - 1}; give the "
        "vocabulary of the tokenizer.",
    )
    return np.bincount(tokens.ravel(), minlength=vocabulary)


def _usage(counts: np.ndarray) -> dict[str, float]:
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log(np.where(counts > 0, frequencies, 1))
    entropy = -np.sum(frequencies * logs, axis=1).mean()
    return {"share": float(np.mean(counts > 0)), "perplexity": float(np.exp(entropy))}


def _rows(pyramid: Sequence[HostArray]) -> list[bytes]:
    """The tokens of every image, all scales joined, as hashable bytes."""
    joined = [np.asarray(scale, np.int64).reshape(len(scale), -1) for scale in pyramid]
    return [row.tobytes() for row in np.concatenate(joined, axis=1)]
