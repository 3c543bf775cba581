"""Captions of scenes: what is drawn, in words."""

from typing import Any

from mvar_jax.checks import check
from mvar_jax.data.image_source import Records
from mvar_jax.data.scenes import CLASSES, HUES, Scene, draw_scene
from mvar_jax.data.shapes import SEEDS

SIZES = ((0.69, "small"), (0.77, "medium"), (1.0, "large"))  # by the radius below which they end
PATTERN_WORDS = {"stripes": "striped", "checks": "checked", "dots": "dotted"}


def describe(scene: Scene) -> str:
    """A caption such as "a small dark red striped gear on pale green"."""
    size = next(word for end, word in SIZES if scene.radius < end)
    surface, ground = scene.object, scene.ground
    pattern = PATTERN_WORDS.get(surface.pattern, surface.pattern)
    shades = ["bright" if surface.bright else "dark", "pale" if ground.bright else "deep"]
    return (
        f"a {size} {shades[0]} {surface.hue} {pattern} {CLASSES[scene.label]} on {shades[1]} "
        f"{ground.hue}"
    )


def parse_object(caption: str) -> tuple[int, str]:
    """The label and the hue of the object that a caption of `describe` asks for.

    Raises ValueError for a text that names no class and hue there.
    """
    words = caption.split(" on ", maxsplit=1)[0].split()
    found = len(words) > 2 and words[-1] in CLASSES and words[-3] in HUES
    check(
        found,
        f"captions: got {caption!r}, expected one as of a scene: {describe(draw_scene(0, 0))!r}.",
    )
    return CLASSES.index(words[-1]), words[-3]


def is_held_out(label: int, hue: str) -> bool:
    """Whether objects of a class never have a hue in captioned training data.

    One combination in eight is kept for judging whether captions are understood word by word.
    """
    return (3 * label + HUES.index(hue)) % len(HUES) == 0


class CaptionedScenes:
    """The records of a split of `shapes` with captions, without the combinations held out."""

    def __init__(self, records: Records, split: str):
        self._records, self._split = records, split
        seed = SEEDS[split.partition("[")[0]]
        scenes = {i: draw_scene(seed, self._number(i)) for i in range(len(records))}
        self._captions = {
            i: describe(scene)
            for i, scene in scenes.items()
            if not is_held_out(scene.label, scene.object.hue)
        }
        self._places = list(self._captions)

    def _number(self, index: int) -> int:
        """The number of a record's scene, from its id."""
        return int(bytes(self._records[index]["id"]).rpartition(b"_")[2])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = self._places[index]
        return {"image": self._records[place]["image"], "caption": self._captions[place]}

    def describe(self, index: int) -> str:
        """What identifies the record."""
        return self._records.describe(self._places[index])

    def find_unreadable(self) -> dict[int, str]:
        """None: to tell, every record would have to be read."""
        return {}
