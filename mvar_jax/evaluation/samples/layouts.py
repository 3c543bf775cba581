"""The files that evaluators look for: an archive, or the pictures of a benchmark of texts.

    adm       samples.npz, and with `png` png/000000.png for every image
    geneval   00000/metadata.jsonl and 00000/samples/0000.png to 0003.png for every prompt
    dpg       images/NAME.png for every prompt NAME.txt: its four images in a square without gaps

GenEval's `evaluate_images.py` reads the object of a prompt and all pictures named by a number
(arXiv 2310.11513). DPG-Bench's `compute_dpg_bench.py` reads all files of a folder, finds a prompt
by a file's name up to its first dot, and cuts the four images out (arXiv 2403.05135): give it
`--pic-num 4` and the side of an image as `--resolution`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from mvar_jax.checks import check
from mvar_jax.evaluation.samples.parts import Pixels
from mvar_jax.text.prompt_files import PromptSet

IMAGES_PER_PROMPT = 4  # of both benchmarks
Picture = tuple[str, UInt8[np.ndarray, "height width_px 3"]]


@dataclass(frozen=True)
class Layout:
    """Images in one archive: all classes or prompts in turn, as balanced as their number allows.

    The Inception score splits an archive into runs of 5,000 images: in turn, each run has all
    classes. `prompts` are None for a model of classes.
    """

    prompts: PromptSet | None = None
    png: bool = False
    name = "adm"
    has_archive = True

    def check_takes(self, batch: int, image_size: tuple[int, int]) -> None:
        """Raises ValueError for images, so many in a part, that it has no pictures of."""

    def condition_of(self, number: int, conditions: int) -> int:
        """Which of so many classes or prompts an image is drawn for."""
        return number % conditions

    def pictures(self, first: int, pixels: Pixels) -> Iterator[Picture]:
        """The pictures that show images from number `first` on, each with its path."""
        if self.png:
            yield from ((f"png/{first + i:06d}.png", image) for i, image in enumerate(pixels))

    def texts(self) -> Iterator[tuple[str, str]]:
        """The files beside the pictures, each with its path."""
        yield from ()


@dataclass(frozen=True)
class GenEval(Layout):
    """A folder for every prompt, with its line of `evaluation_metadata.jsonl`."""

    name = "geneval"
    has_archive = False

    def __post_init__(self):
        check(
            self.prompts is not None and len(self.prompts.objects) > 0,
            "--layout=geneval: expected --prompts=evaluation_metadata.jsonl, GenEval's JSON lines.",
        )

    def condition_of(self, number: int, conditions: int) -> int:
        """Each prompt's images follow each other."""
        return number // IMAGES_PER_PROMPT

    def pictures(self, first: int, pixels: Pixels) -> Iterator[Picture]:
        """A picture for every image."""
        for number, image in enumerate(pixels, start=first):
            prompt, sample = divmod(number, IMAGES_PER_PROMPT)
            yield f"{prompt:05d}/samples/{sample:04d}.png", image

    def texts(self) -> Iterator[tuple[str, str]]:
        """What GenEval asks of every prompt."""
        assert self.prompts is not None  # checked at the start
        for prompt, value in enumerate(self.prompts.objects):
            yield f"{prompt:05d}/metadata.jsonl", json.dumps(value)


@dataclass(frozen=True)
class Dpg(Layout):
    """A picture of four images for every prompt, which has the name of its file."""

    name = "dpg"
    has_archive = False

    def __post_init__(self):
        check(
            self.prompts is not None and len(self.prompts.names) > 0,
            "--layout=dpg: expected --prompts=FOLDER, with a .txt for every prompt of DPG-Bench.",
        )
        assert self.prompts is not None  # checked above
        dotted = [name for name in self.prompts.names if "." in name]
        check(
            not dotted,
            f"--layout=dpg: {''.join(dotted[:1])}.txt has a dot in its name, where DPG-Bench ends "
            "the name of a picture; rename it.",
        )

    def check_takes(self, batch: int, image_size: tuple[int, int]) -> None:
        """Raises ValueError unless four squares make a picture, all of them in one part."""
        height, width = image_size
        check(
            height == width,
            f"--layout=dpg: the images have {width} x {height} pixels, expected squares, which "
            "DPG-Bench cuts out; draw them by --aspect=1:1.",
        )
        check(
            batch % IMAGES_PER_PROMPT == 0,
            f"--batch_size: got {batch}, expected a multiple of {IMAGES_PER_PROMPT}, the images of "
            "a picture.",
        )

    def condition_of(self, number: int, conditions: int) -> int:
        """Each prompt's images follow each other."""
        return number // IMAGES_PER_PROMPT

    def pictures(self, first: int, pixels: Pixels) -> Iterator[Picture]:
        """A picture for every four images."""
        assert self.prompts is not None  # checked at the start
        squares = rearrange(pixels, "(prompt y x) h w c -> prompt (y h) (x w) c", y=2, x=2)
        names = self.prompts.names[first // IMAGES_PER_PROMPT :]
        yield from ((f"images/{name}.png", square) for name, square in zip(names, squares))


LAYOUTS = {layout.name: layout for layout in (Layout, GenEval, Dpg)}


def make_layout(
    name: str, *, prompts: PromptSet | None, count: int | None, png: bool
) -> tuple[Layout, int]:
    """A layout by its name, and the number of images: `count`, or four for every prompt.

    Raises ValueError for prompts that it does not take, and for a count where it has its own.
    """
    layout = LAYOUTS[name](prompts, png)
    if layout.has_archive:
        if count is None:
            raise ValueError("--num is missing, expected the number of images, as 50000.")
        return layout, count
    check(
        count is None and not png,
        f"--layout={name}: it has {IMAGES_PER_PROMPT} images for every prompt; leave out --num "
        "and --png.",
    )
    assert prompts is not None  # the layout checked it
    return layout, IMAGES_PER_PROMPT * len(prompts.prompts)
