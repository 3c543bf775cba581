"""The protocol of text encoders; all other code uses only this."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mvar_jax.text.features import TextFeatures


@runtime_checkable
class TextEncoder(Protocol):
    """Turns prompts into the features that a model conditions on."""

    @property
    def name(self) -> str:
        """What it is called, in reports and beside stored features."""

    @property
    def width(self) -> int:
        """Channels of a token."""

    @property
    def max_length(self) -> int:
        """Tokens of the longest prompt; longer ones are cut."""

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """The features of every prompt, on the host, padded to one of `features.LENGTHS`.

        Those of a prompt do not depend on the others. The empty prompt has a single token, the end
        of the text; a model draws it by its own unconditional features (`Model.features`). Raises
        ValueError for no prompt.
        """
