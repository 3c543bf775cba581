"""The figures and pictures of the quickstart."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mvar_jax.evaluation.class_conditional import ClassConditionalJudge, RealImages
from mvar_jax.evaluation.judges import Judged, Judges
from mvar_jax.evaluation.metrics import codebook_usage, exact_copies
from mvar_jax.evaluation.reconstruction import reconstruct
from mvar_jax.ops.fidelity import psnr
from mvar_jax.pictures.image_grid import image_grid, reconstruction_grid
from mvar_jax.sampling.model import BATCH_SIZE, Model, Samples
from mvar_jax.training.loop import Outcome

SAMPLES_PER_CLASS = 100
COLUMNS = 10  # samples of each class in the picture
ENLARGE = 2


def judge(
    model: Model, outcomes: Mapping[str, Outcome], judges: Judges
) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """The report of a trained model, and its pictures by name.

    Samples are judged against the real test split, which the training never saw. Accuracy and
    distance are those of `ClassConditionalJudge`, with the config's guidance and without. Where
    the judges have a network, `fd_lite` is the distance of as many samples as test images from
    these, and `fd_lite_real` that of as many training images.
    """
    config, seconds = model.config, _training_seconds(outcomes)
    train, test = (RealImages.load(config, split) for split in (config.data.train_split, "test"))
    judge, seconds["classifier"] = _timed(lambda: ClassConditionalJudge(train, test))
    labels = np.repeat(np.arange(len(model.class_names)), SAMPLES_PER_CLASS)
    sample = partial(model.sample, labels.tolist())
    seconds["sample_compile"] = _timed(lambda: model.sample(labels[:BATCH_SIZE].tolist()))[1]
    guided, seconds["sample"] = _timed(sample)
    seconds["sample_compile"] -= seconds["sample"] * BATCH_SIZE / len(labels)
    unguided = sample(guidance=0.0)
    tokens, reconstructions = _tokens(model, train), reconstruct(model, test.images)
    report = {
        "label_accuracy": judge.accuracy(guided.images, labels),
        "label_accuracy_unguided": judge.accuracy(unguided.images, labels),
        "frechet": judge.frechet(guided.images),
        "frechet_unguided": judge.frechet(unguided.images),
        **judge.real(),
        **_network_distances(judges, guided.images, train.images, test.images),
        "exact_copies": exact_copies(guided.tokens, tokens),
        "reconstruction_psnr": float(np.mean(psnr(reconstructions, jnp.asarray(test.images)))),
        "codebook_usage": codebook_usage(tokens, model.config.tokenizer.vocabulary),
        "carried_state_bytes": model.carried_state_bytes(),
        "guidance": model.config.sampling.guidance,
        "loss": {name: outcome.history for name, outcome in outcomes.items()},
        "seconds": seconds,
    }
    pictures = {
        "samples": _picture(model, guided),
        "reconstructions": reconstruction_grid(
            test.images[: 5 * COLUMNS], reconstructions[: 5 * COLUMNS], COLUMNS, scale=ENLARGE
        ),
    }
    return report, pictures


def _picture(model: Model, samples: Samples) -> Image.Image:
    """The first samples of every class, one row per class."""
    names = model.class_names
    rows = samples.images.reshape(len(names), SAMPLES_PER_CLASS, *samples.images.shape[1:])
    first = rows[:, :COLUMNS].reshape(-1, *samples.images.shape[1:])
    return image_grid(first, COLUMNS, names, scale=ENLARGE)


def _network_distances(
    judges: Judges, samples: np.ndarray, train: np.ndarray, test: np.ndarray
) -> dict[str, float]:
    """The distances of samples, spread over the classes, and of training images from the test's.

    Of each as many as there are test images.
    """
    if not judges.extractors:
        return {}
    judged, count = Judged(judges, test), len(test)
    even = np.linspace(0, len(samples) - 1, count).round().astype(int)
    real = judged.compare(train[:count])
    return judged.compare(samples[even]) | {f"{name}_real": value for name, value in real.items()}


def _tokens(model: Model, real: RealImages) -> tuple[np.ndarray, ...]:
    def tokenize(params, images):
        tokenizer = model.tokenizer.bind({"params": params})
        return tokenizer.quantize(tokenizer.encode(images))

    return jax.device_get(jax.jit(tokenize)(model.weights.tokenizer, real.images))


def _training_seconds(outcomes: Mapping[str, Outcome]) -> dict[str, float]:
    return {
        f"{name}_{phase}": value
        for name, outcome in outcomes.items()
        for phase, value in outcome.seconds.items()
    }


def _timed(function: Callable) -> tuple[Any, float]:
    start = time.monotonic()
    return function(), time.monotonic() - start
