"""What users ask for, as conditions: classes by index or name, or texts."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from mvar_jax.checks import check, check_given
from mvar_jax.config import TextConfig
from mvar_jax.text.encoder import TextEncoder
from mvar_jax.text.features import TextFeatures

Labels: TypeAlias = int | str | Sequence[int | str]
Prompts: TypeAlias = str | Sequence[str] | TextFeatures


def label_indices(labels: Labels, class_names: Sequence[str]) -> np.ndarray:
    """Class indices, int32 `[labels]`, of indices or names.

    Of a class with several names, "tench, Tinca tinca", any one will do. Raises ValueError for
    an unknown label, and for a name of several classes.
    """
    _check_classes(class_names)
    asked = listed(labels)
    check(len(asked) > 0, "labels: got none, expected at least one.")
    return np.array([_label_index(label, class_names) for label in asked], np.int32)


def parse_labels(text: str, class_names: Sequence[str]) -> list[int | str]:
    """The labels of a text such as "3,tench, Tinca tinca", which commas part; for drawing.

    Pieces that are a class's name together are one label, the longest first. "all" is every
    class, unless one has that name.
    """
    _check_classes(class_names)
    names = {_pieces(name): name for name in class_names}
    longest = max(map(len, names))
    rest, labels = _pieces(text), list[int | str]()
    if rest == ("all",) and rest not in names:
        return list(range(len(class_names)))
    while rest:
        sizes = range(min(longest, len(rest)), 1, -1)
        size = next((size for size in sizes if rest[:size] in names), 1)
        labels.append(names.get(rest[:size], rest[0]))
        rest = rest[size:]
    return labels


def text_features(prompts: Prompts, encoder: TextEncoder | None, text: TextConfig) -> TextFeatures:
    """The features of prompts, padded to no more tokens than the model reads; or those given.

    Raises ValueError where there is no encoder for prompts, for features of another width or that
    are not finite, and for a prompt that is longer than the model reads.
    """
    if not isinstance(prompts, TextFeatures):
        encoder = check_given(
            encoder, "prompts: the model has no text encoder; load it with one, or give features."
        )
        prompts = encoder.encode(listed(prompts))
    check(
        prompts.width == text.channels,
        f"prompts: got features of {prompts.width} channels, expected {text.channels}; use the "
        "text encoder that the model was trained with.",
    )
    finite = np.isfinite(np.asarray(prompts.features, np.float32)).all(axis=(1, 2))
    check(
        bool(finite.all()),
        f"prompts: the features of number {np.argmin(finite)} (from 0) are not all finite; encode "
        "the prompts again.",
    )
    longest = int(np.max(prompts.lengths, initial=0))
    check(
        0 < longest <= text.max_length,
        f"prompts: got one of {longest} tokens, expected 1 to {text.max_length}; shorten it.",
    )
    return prompts.padded(min(prompts.mask.shape[1], text.max_length))


def listed(value: Any) -> Sequence:
    """A value by itself as a list; a string is one value."""
    return list(value) if np.iterable(value) and not isinstance(value, str) else [value]


def _check_classes(class_names: Sequence[str]) -> None:
    check(len(class_names) > 0, "labels: the model has no classes; give prompts in their place.")


def _label_index(label: int | str, names: Sequence[str]) -> int:
    text = str(label).strip()
    if isinstance(label, str):
        found = [i for i, name in enumerate(names) if name == text]
        found = found or [i for i, name in enumerate(names) if text in name.split(", ")]
        check(len(found) <= 1, f"labels: {label!r} names the classes {found}, give an index.")
        if found:
            return found[0]
    count = len(names)
    check(
        text.isdecimal() and int(text) < count,
        f"labels: got {label!r}, expected class indices from 0 to {count - 1} or names such "
        f"as {names[0]!r}.",
    )
    return int(text)


def _pieces(text: str) -> tuple[str, ...]:
    """What commas part in a text."""
    return tuple(piece.strip() for piece in text.split(","))
