"""The format of one image's tokens in a file: a label, then the tokens of every crop."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from mvar_jax.array_types import Example
from mvar_jax.checks import check

LABEL_BYTES = 4


@dataclass(frozen=True)
class TokenRecord:
    """The form of all records of a directory: little-endian, of one size, no names.

    `crops` token pyramids of `total` tokens each, all below `vocabulary`, 2 bytes a token up to a
    vocabulary of 65536 and 4 above; labels of `num_classes` classes.
    """

    crops: int
    total: int
    vocabulary: int
    num_classes: int

    @property
    def token_type(self) -> np.dtype:
        """The type that tokens are stored as."""
        return np.dtype("<u2" if self.vocabulary <= 2**16 else "<u4")

    def pack(self, tokens: Int[np.ndarray, "crops total"], label: int) -> bytes:
        """The bytes of one image."""
        return np.array(label, "<u4").tobytes() + tokens.astype(self.token_type).tobytes()

    def unpack(self, record: bytes) -> Example:
        """`{"tokens": int32 [crops, total], "label": int32}`.

        Raises ValueError for bytes that `pack` cannot have written.
        """
        size = LABEL_BYTES + self.crops * self.total * self.token_type.itemsize
        check(len(record) == size, f"it has {len(record)} bytes, expected {size}")
        label = int(np.frombuffer(record, "<u4", 1)[0])
        stored = np.frombuffer(record, self.token_type, offset=LABEL_BYTES)
        check(label < self.num_classes, f"its label is {label}, of {self.num_classes} classes")
        check(
            int(stored.max()) < self.vocabulary,
            f"it has a token {stored.max()}, of a vocabulary of {self.vocabulary}",
        )
        tokens = stored.astype(np.int32).reshape(self.crops, self.total)
        return {"tokens": tokens, "label": np.int32(label)}
