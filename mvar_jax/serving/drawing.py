"""A job drawn scale by scale: what a model computes, as events for the page."""

import base64
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from mvar_jax.checks import check
from mvar_jax.ops.fidelity import psnr
from mvar_jax.pictures.pixels import to_uint8
from mvar_jax.pictures.token_maps import token_map
from mvar_jax.sampling import Model, Samples
from mvar_jax.sampling.carried_bytes import cache_bytes, carried_bytes
from mvar_jax.serving.job import Job, Policy
from mvar_jax.serving.limits import most_images
from mvar_jax.serving.models import Models

AMPLIFIED = 4  # times that a difference of two images is shown


@dataclass(frozen=True)
class Event:
    """What the page is told: a kind, and values that JSON takes."""

    kind: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawer:
    """Draws jobs, for the one thread that computes; `command` gives what repeats a job."""

    models: Models
    command: Callable[[Job, Policy], str]

    def __call__(self, job: Job) -> Iterator[Event]:
        """Yields what the page is told, an event per scale and policy.

        Raises ValueError for what the model does not take, before anything is drawn.
        """
        if not self.models.holds(job.offer):
            yield Event("loading", {"workdir": job.offer.workdir})
        self.models.forget_programs()  # of jobs that were stopped
        model, before = self.models.of(job), self.models.compiled
        policies, subjects = job.asked.policies, _subjects(model, job)
        runs = [self.models.compressed(model, policy) for policy in policies]
        start = time.perf_counter()
        streams = [_stream(run, job, subjects) for run in runs]
        described = [_described(run) for run in runs]
        for policy, values in zip(policies, described):
            values["command"] = self.command(job, policy)
        sizes = model.sampler.scales.sizes
        note = _note(job, model.image_size)
        yield Event("started", {"sizes": sizes, "runs": described, "note": note})
        steps: list[Samples] = []
        for scale, size in enumerate(sizes):
            steps.clear()
            for run, stream in enumerate(streams):
                steps.append(next(stream))
                place = {"run": run, "scale": scale, "seconds": time.perf_counter() - start}
                yield Event("scale", place | _pictures(steps[-1], size, job))
        if len(steps) > 1:
            yield Event("compared", _compared(*steps, job=job))
        compiled = self.models.compiled - before
        self.models.forget_programs()
        yield Event("done", {"seconds": time.perf_counter() - start, "compiled": compiled})


def _subjects(model: Model, job: Job) -> list[int | str] | None:
    """What every image is of, None for an edit without a condition. Raises ValueError."""
    asked = job.asked
    if job.edit is not None and not asked.subject:
        return None
    rows = [asked.subject] if job.offer.texts else model.parse_labels(asked.subject)
    height, width = model.image_size
    most = most_images(model.image_size)
    count = len(rows) * asked.columns
    check(
        count <= most and (job.edit is None or count == 1),
        f"subject: got {len(rows)} rows of {asked.columns} images, expected at most "
        f"{most if job.edit is None else 1} images of {height} x {width} pixels; ask for fewer.",
    )
    return [row for row in rows for _ in range(asked.columns)]


def _stream(model: Model, job: Job, subjects: list[int | str] | None) -> Iterator[Samples]:
    """The images after every scale, as `mvar_jax.sample` or `mvar_jax.edit` draws them."""
    asked, settings = job.asked, dict(job.asked.settings)
    if asked.negative:
        settings["negative"] = asked.negative
    if job.edit is None or job.canvas is None:
        return model.stream(subjects, asked.seed, **settings)
    images, masks = job.canvas.fitted(model.image_size)
    noise = None
    if job.edit.source:
        noise = model.invert(images, [job.edit.source], asked.seed, **settings)
    strength, threshold = job.edit.strength, job.edit.threshold
    forced = model.keep(images, masks, noise=noise, strength=strength, threshold=threshold)
    return model.stream(subjects, asked.seed, forced=forced, **settings)


def _note(job: Job, size: tuple[int, int]) -> str:
    """What is done to the image and mask of an edit, as `mvar_jax.edit` says it; maybe nothing."""
    if job.canvas is None:
        return ""
    return " ".join(filter(None, (job.canvas.said, job.canvas.describe_fit(size))))


def _described(model: Model) -> dict[str, Any]:
    """What a model carries from scale to scale: bytes of an image's cache, and of all."""
    sampler, weights = model.sampler, model.weights
    return {
        "summary": model.cache_summary() if model.policy else "",
        "cache_bytes": cache_bytes(sampler, weights),
        "carried_bytes": carried_bytes(sampler, weights),
    }


def _pictures(samples: Samples, size: tuple[int, int], job: Job) -> dict[str, list[str]]:
    """The images so far and the tokens of their last scale."""
    maps = [token_map(tokens, size) for tokens in samples.tokens[-1]]
    return {
        "images": [_png(pixels) for pixels in _finished(samples, job)],
        "tokens": [_png(pixels) for pixels in maps],
    }


def _finished(samples: Samples, job: Job) -> list[np.ndarray]:
    """Pixels of the images, edits at the size of what was edited."""
    if job.edit is None or job.canvas is None:
        return list(to_uint8(samples.images))
    finished = partial(job.canvas.finished, paste=job.edit.paste, feather=job.edit.feather)
    return [np.asarray(finished(image)) for image in samples.images]


def _compared(one: Samples, other: Samples, *, job: Job) -> dict[str, Any]:
    """How close the pictures of two policies are: PSNR in dB, None where equal, and differences.

    They are those that are shown: an edit's have the pixels of the image outside of the mask.
    """
    pairs = list(zip(_finished(one, job), _finished(other, job)))
    shown = [jnp.asarray(np.stack(pictures) / np.float32(127.5) - 1) for pictures in zip(*pairs)]
    signed = [first.astype(np.float32) - second for first, second in pairs]
    return {
        "psnr": [float(dB) if np.isfinite(dB) else None for dB in np.asarray(psnr(*shown))],
        "amplified": AMPLIFIED,
        "differences": [
            _png(np.clip(AMPLIFIED * np.abs(change), 0, 255).astype(np.uint8)) for change in signed
        ],
        "equal_tokens": [
            float(np.mean(first == second)) for first, second in zip(one.tokens, other.tokens)
        ],
    }


def _png(pixels: np.ndarray) -> str:
    """A picture as a browser takes it in an address."""
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
