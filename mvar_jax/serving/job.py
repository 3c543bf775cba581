"""What a visitor asks for, checked; jax computes nothing here."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mvar_jax.checks import check, check_integer, check_range, check_seed, first_line
from mvar_jax.config import SamplingConfig
from mvar_jax.config.tree import from_config_dict
from mvar_jax.data.decode import decode_image
from mvar_jax.files import parse_json
from mvar_jax.pictures.canvas import Canvas
from mvar_jax.serving.limits import LONGEST_TEXT, MOST_GIVEN_PIXELS, MOST_IMAGES
from mvar_jax.serving.offer import Offer

# Of `SamplingConfig`, what programs have a flag for.
SETTINGS = ("guidance", "guidance_layer", "top_k", "top_p", "temperature", "smooth")


@dataclass(frozen=True)
class Policy:
    """A cache policy by name and size, or none; what is 0 is left to the policy."""

    name: str = ""
    ratio: float = 0.0
    budget: int = 0

    def __post_init__(self):
        check_range("ratio", self.ratio, 0, 1)
        check_integer("budget", self.budget, 0, 2**31 - 1)
        check(
            bool(self.name) or not (self.ratio or self.budget),
            "policy: got a ratio or a budget without a policy, expected its name; choose one.",
        )

    @property
    def sizes(self) -> dict[str, Any]:
        """The arguments of `Model.compressed` that are given."""
        sizes = {"ratio": self.ratio, "budget": self.budget}
        return {name: size for name, size in sizes.items() if size}


@dataclass(frozen=True)
class Edit:
    """An image to edit, its mask, and how: see `Model.edit`."""

    feather: float
    strength: float
    threshold: float
    image: str = ""  # encoded, in base64, with or without "data:image/png;base64," before it
    mask: str = ""
    source: str = ""  # the label or prompt of the image, to draw with its noise; "" for none
    paste: bool = True

    def __post_init__(self):
        check(self.image != "", "image: got none to edit, expected a PNG, JPEG or WebP in base64.")
        check_range("feather", self.feather, 0, 10_000)
        check_range("strength", self.strength, 0, 1)
        check_range("threshold", self.threshold, 0, 1)
        _check_text("source", self.source)

    def canvas(self) -> Canvas:
        """The decoded image and mask. Raises ValueError for what is none, or too large."""
        mask = _decoded("mask", self.mask) if self.mask else None
        return Canvas.of(_decoded("image", self.image), mask)


@dataclass(frozen=True)
class Asked:
    """The values of one request as they are sent."""

    model: int = 0  # index of an offer
    subject: str = ""  # labels with commas between, or a prompt
    negative: str = ""
    seed: int = 0
    columns: int = 1  # images per label, or of the prompt
    aspect: str = ""  # width:height
    pixels: str = ""
    policies: tuple[Policy, ...] = (Policy(),)  # two are drawn on the same noise
    settings: dict = field(default_factory=dict)  # of `SamplingConfig`, by name
    edit: dict = field(default_factory=dict)  # of `Edit`, by name; none draws a new image

    def __post_init__(self):
        for name in ("subject", "negative", "aspect", "pixels"):
            _check_text(name, getattr(self, name))
        check_seed(self.seed)
        check_integer("columns", self.columns, 1, MOST_IMAGES)
        check(
            len(self.policies) in (1, 2),
            f"policies: got {len(self.policies)}, expected one, or two to compare.",
        )
        check(
            not self.edit or self.columns == 1,
            f"columns: got {self.columns} images of an edit, expected 1; change the seed for more.",
        )
        unknown = sorted({*self.settings} - {*SETTINGS})
        check(
            not unknown,
            f"settings: got {', '.join(unknown)}, expected some of {', '.join(SETTINGS)}.",
        )
        from_config_dict(self.settings, SamplingConfig, "settings")


@dataclass(frozen=True)
class Job:
    """One request, checked as far as can be without the model's weights."""

    asked: Asked
    offer: Offer
    edit: Edit | None = None
    canvas: Canvas | None = None  # of the edit

    @classmethod
    def parse(cls, body: bytes, offers: Sequence[Offer]) -> "Job":
        """The job of a request's JSON, whose keys are those of `Asked`.

        Raises ValueError, in one sentence, for anything else.
        """
        try:
            values = parse_json(body)
        except ValueError as error:
            problem = f"request: got what is no JSON ({first_line(error)})"
            raise ValueError(f"{problem}, expected an object of named values.") from None
        check(isinstance(values, dict), "request: got JSON that is no object, expected one.")
        asked = from_config_dict(values, Asked, "request")
        check_integer("model", asked.model, 0, len(offers) - 1)
        offer = offers[asked.model]
        if not asked.edit:
            return cls(asked, offer)
        defaults = {name: getattr(offer, name) for name in ("feather", "strength", "threshold")}
        edit = from_config_dict(defaults | asked.edit, Edit, "edit")
        return cls(asked, offer, edit, edit.canvas())


def _check_text(name: str, text: str) -> None:
    check(
        len(text) <= LONGEST_TEXT,
        f"{name}: got {len(text)} characters, expected at most {LONGEST_TEXT}; shorten it.",
    )


def _decoded(name: str, text: str):
    encoded = text.rpartition(",")[2] if text.startswith("data:") else text
    try:
        return decode_image(base64.b64decode(encoded, validate=True), MOST_GIVEN_PIXELS)
    except binascii.Error:
        problem = "it is not in base64"
    except ValueError as error:
        problem = str(error)
    raise ValueError(f"{name}: cannot be read ({problem}); give a PNG, JPEG or WebP.") from None
