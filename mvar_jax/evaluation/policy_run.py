"""A run of one cache policy: images drawn freely, and logits along the full cache's tokens."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import batch_size
from mvar_jax.evaluation.programs import program_memory
from mvar_jax.models import Condition
from mvar_jax.sampling import Filters, Forced, Sampler, Weights, generate_scales
from mvar_jax.sampling.request import NumberedRequest, batch_rows


class PolicyRun(NamedTuple):
    """The images and tokens, the divergence of forced logits, and time and memory."""

    images: np.ndarray  # float32 [batch, height, width, 3] in [-1, 1]
    tokens: tuple[np.ndarray, ...]  # per scale, int32 [batch, n]
    divergence: np.ndarray  # KL(full || policy) of forced logits, mean over tokens, [batch, scales]
    compile_seconds: float
    seconds: float  # per image
    peak_bytes: int  # of the compiled program: arguments, temporaries and results


class Task(NamedTuple):
    """The inputs that are the same for every policy."""

    sampler: Sampler
    condition: Condition  # of every image, on the host
    seed: int
    filters: Filters
    batch_size: int

    @property
    def images(self) -> int:
        """How many images are drawn."""
        return batch_size(self.condition)


def run_full(
    task: Task, weights: Weights, *, progress: Callable[[int], None]
) -> tuple[PolicyRun, list[tuple[np.ndarray, ...]]]:
    """The run of the full cache, and its log-probabilities by batch and scale.

    The log-probabilities stay on the host: 4 bytes per image, token and logit.
    """
    return _run(task, weights, None, None, progress)


def run_policy(
    task: Task,
    weights: Weights,
    tokens: Sequence[np.ndarray],
    *,
    reference: Sequence[tuple[np.ndarray, ...]],
    progress: Callable[[int], None],
) -> PolicyRun:
    """A policy's run; the same images are also forced along the `tokens` of the full cache.

    `reference` are the full run's log-probabilities.
    """
    forced = [Forced(scale, np.ones(scale.shape[:2], np.int32)) for scale in tokens]
    return _run(task, weights, forced, reference, progress)[0]


def _run(task, weights, forced, reference, progress):
    numbers = np.arange(task.images, dtype=np.uint32)
    asked = NumberedRequest(task.condition, np.uint32(task.seed), numbers, task.filters, forced)
    parts, kept, step = [], [], min(task.batch_size, task.images)
    program, compile_seconds, seconds = None, 0.0, 0.0
    for number, rows in enumerate(batch_rows(task.images, step)):
        own = asked.images(rows)
        if program is None:
            started = time.monotonic()
            program = _both.lower(task.sampler, weights, own).compile()
            compile_seconds = time.monotonic() - started
        started = time.monotonic()
        images, drawn, logs = jax.block_until_ready(program(weights, own))
        seconds += (time.monotonic() - started) / (2 * step)  # each image is drawn twice
        if reference is None:
            kept.append(jax.device_get(logs))
            divergence = np.zeros((step, len(logs)), np.float32)
        else:
            divergence = jax.device_get(_divergence(reference[number], logs))
        parts.append((*jax.device_get((images, drawn)), divergence))
        progress(min((number + 1) * step, task.images))
    batches = len(parts)
    images, drawn, divergence = jax.tree.map(
        lambda *arrays: np.concatenate(arrays)[: task.images], *parts
    )
    peak = program_memory(program).peak
    run = PolicyRun(images, drawn, divergence, compile_seconds, seconds / batches, peak)
    return run, kept


@partial(jax.jit, static_argnames="sampler")
def _both(sampler, weights, asked):
    """Images and tokens drawn freely, and log-probabilities along the forced tokens, or the drawn.

    Both are halves of one batch, so that only one program is compiled per policy.
    """
    batch = batch_size(asked.numbers)
    free = jax.tree.map(jnp.zeros_like, asked.forced)
    twice = replace(
        asked,
        condition=_joined(asked.condition, asked.condition),
        numbers=_joined(asked.numbers, asked.numbers),
        forced=_joined(free, asked.forced),
    )
    steps = list(generate_scales(sampler, weights, twice.request()))
    tokenizer = sampler.tokenizer.bind({"params": weights.tokenizer})
    images = tokenizer.decode(steps[-1].running[:batch])
    space = sampler.tokenizer.token_space
    logs = tuple(space.log_probabilities(step.logits[batch:]) for step in steps)
    return images, tuple(step.tokens[:batch] for step in steps), logs


def _joined(one, other):
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), one, other)


@jax.jit
def _divergence(reference, logs):
    """KL divergence in nats per image and scale, mean over tokens: [batch, scales].

    Negative values, which are due to rounding, are set to zero.
    """

    def one_scale(exact, other):
        shares = jnp.sum(jnp.exp(exact) * (exact - other), axis=-1)
        return jnp.mean(jnp.maximum(shares, 0), axis=-1)

    return jnp.stack([one_scale(*pair) for pair in zip(reference, logs)], axis=-1)
