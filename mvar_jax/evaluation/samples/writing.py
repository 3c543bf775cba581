"""Draws samples into a folder, on one host or on many, or resumes it; see `manifest`.

Host i of N draws every N-th part from the i-th, as many at a time as it has devices.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from mvar_jax.array_types import Float
from mvar_jax.checks import check
from mvar_jax.evaluation.samples.archive import write_archive
from mvar_jax.evaluation.samples.drawing import SampleDrawing
from mvar_jax.evaluation.samples.manifest import (
    ARCHIVE,
    FEATURES,
    MANIFEST,
    PARTS,
    SampleManifest,
)
from mvar_jax.evaluation.samples.parts import Parts, Pixels
from mvar_jax.files import file_checksum, write_text
from mvar_jax.mesh.processes import on_first_process
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.pictures.image_files import save_picture
from mvar_jax.pictures.pixels import to_uint8
from mvar_jax.training.lock import RunLock

Images = Float[np.ndarray, "batch height width_px 3"]


def find_samples(plan: SampleManifest, out: Path) -> SampleManifest | None:
    """The manifest of the samples of `plan` in a folder where they are all there.

    All processes call it. Raises ValueError as `SampleManifest.find` does.
    """
    answer = on_first_process(lambda: "finished" if plan.find(out) else None)
    return SampleManifest.load(out / MANIFEST) if answer else None


def write_samples(drawing: SampleDrawing, plan: SampleManifest, out: Path) -> SampleManifest:
    """Draws what is missing of the samples in a folder, which it makes theirs.

    All processes call it, each with the mesh of its own devices as the ambient one. `plan` says
    what the drawing is. Memory holds the images of two batches. Returns the finished manifest.
    Raises ValueError as encoding prompts and `SampleManifest.claim` do, naming the image for NaN,
    and as `RunLock` does where another run draws into the folder.
    """
    with RunLock(out):
        if not on_first_process(lambda: _prepare(drawing, plan, out)):
            drawing = drawing.with_features(out / FEATURES)
            parts = Parts(out / PARTS, drawing.count, drawing.batch, drawing.model.image_size)
            _draw_parts(drawing, parts, out)
            on_first_process(lambda: _conclude(drawing, plan, parts, out))
    return SampleManifest.load(out / MANIFEST)


def _prepare(drawing: SampleDrawing, plan: SampleManifest, out: Path) -> str | None:
    """Claims the folder, encodes and checks all texts, and writes what lies beside pictures.

    Returns a word where another run has finished the samples meanwhile.
    """
    if plan.claim(out).finished:
        return "finished"
    drawing.with_features(out / FEATURES).check_texts()
    for name, text in drawing.layout.texts():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / name, text)
    return None


def _draw_parts(drawing: SampleDrawing, parts: Parts, out: Path) -> None:
    """Draws this host's parts, except those that are there; a batch is written behind the next."""
    own = range(jax.process_index(), len(parts), jax.process_count())
    missing = [part for part in own if not parts.exists(part)]
    total = sum(len(parts.numbers(part)) for part in own)
    done = total - sum(len(parts.numbers(part)) for part in missing)
    at_once = len(jax.local_devices())
    with (
        ThreadPoolExecutor(at_once) as pool,
        TaskProgress("sample", total, "image", done=done) as progress,
    ):
        writing: list[Future[int]] = []
        for first in range(0, len(missing), at_once):
            group = missing[first : first + at_once]
            images = drawing.draw(_numbers(parts, group, at_once))
            _await(writing, progress.advance)
            writing = [
                pool.submit(_write_part, drawing, parts, out, part, own_images)
                for part, own_images in zip(group, np.split(images, at_once))
            ]
        _await(writing, progress.advance)


def _numbers(parts: Parts, group: Sequence[int], at_once: int) -> list[int]:
    """The numbers that are drawn together: a part on every device, all of one size.

    Where there is less to draw, the last image, and the last part, is drawn again.
    """
    rows = [
        np.minimum(np.arange(parts.size) + parts.numbers(part).start, parts.count - 1)
        for part in [*group, *[group[-1]] * (at_once - len(group))]
    ]
    return np.concatenate(rows).tolist()


def _await(writing: Sequence[Future[int]], done: Callable[[int], None]) -> None:
    for future in writing:
        done(future.result())


def _write_part(drawing: SampleDrawing, parts: Parts, out: Path, part: int, images: Images) -> int:
    """Writes the pictures of a part, then the part, which says that they are there."""
    numbers = parts.numbers(part)
    pixels = _pixels(images[: len(numbers)], numbers.start)
    for name, picture in drawing.layout.pictures(numbers.start, pixels):
        save_picture(Image.fromarray(picture), out / name)
    parts.write(part, pixels)
    return len(numbers)


def _pixels(images: Images, first: int) -> Pixels:
    unknown = np.isnan(images).any(axis=(1, 2, 3))
    check(
        not unknown.any(),
        f"image {first + int(np.argmax(unknown))} of the samples has NaN; draw with other weights "
        "or settings.",
    )
    return to_uint8(images)


def _conclude(drawing: SampleDrawing, plan: SampleManifest, parts: Parts, out: Path) -> None:
    """Writes the archive of all parts, where the layout has one, and says that all is there."""
    checksum = ""
    if drawing.layout.has_archive:
        shape = (parts.count, *parts.image_size, 3)
        write_archive(out / ARCHIVE, shape, parts.read())
        checksum = file_checksum(out / ARCHIVE)
    plan.conclude(out, checksum)
