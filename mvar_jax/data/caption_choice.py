"""Which part of a long caption a training example is told (Infinity's training script)."""

import re

import numpy as np

LONG_SENTENCE = 15  # words from which one sentence is enough for a short caption


def spoken(caption: str) -> str:
    """A caption without what follows `--`."""
    return caption.split("--", maxsplit=1)[0].strip()


def choose_caption(
    long: str, short: str | None, rate: float, generator: np.random.Generator
) -> str:
    """The short caption with probability `rate`, otherwise some sentences of the long one.

    Without a given `short` caption it is the first sentence, or the first two where that is of less
    than `LONG_SENTENCE` words. The sentences of the long one are the leading ones, more of them
    than the short has, all equally likely. What follows `--` is left out.
    """
    long, short = spoken(long), spoken(short or "")
    sentences = [each for each in re.split(r"(?<=\.)\s+", long) if each]
    first = 1 if sentences and len(sentences[0].split()) >= LONG_SENTENCE else 2
    brief = short or " ".join(sentences[:first])
    if generator.uniform() < rate:
        return brief
    least = len([each for each in re.split(r"(?<=\.)\s+", brief) if each]) + 1
    if least > len(sentences):
        return long
    return " ".join(sentences[: generator.integers(least, len(sentences) + 1)])
