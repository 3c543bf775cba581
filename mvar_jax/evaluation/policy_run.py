"""One cache policy on a set of labels: drawn freely, and forced along the full cache's tokens."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Int, Key, Params
from mvar_jax.cache import Compression
from mvar_jax.evaluation.benchmark import program_memory
from mvar_jax.models import Trunk
from mvar_jax.sampling import Filter, generate_scales
from mvar_jax.tokenizers import VQTokenizer


class PolicyRun(NamedTuple):
    """What was drawn, how far forced logits were off, and what it cost."""

    images: np.ndarray  # float32 [batch, height, width, 3] in [-1, 1]
    tokens: tuple[np.ndarray, ...]  # one a scale, int32 [batch, n]
    divergence: np.ndarray  # KL(full || policy) of forced logits, mean over tokens, [batch, scales]
    compile_seconds: float
    seconds: float  # an image
    peak_bytes: int  # of the compiled program: arguments, temporaries and results


class Task(NamedTuple):
    """What every policy is given alike."""

    trunk: Trunk
    tokenizer: VQTokenizer
    labels: Int[np.ndarray, "batch"]
    keys: Key[Array, "batch"]
    filters: Filter
    batch_size: int


def run_full(
    task: Task, params: dict[str, Params], compression: Compression, progress: Callable[[int], None]
) -> tuple[PolicyRun, list[tuple[np.ndarray, ...]]]:
    """The run that others are compared with, and its log-probabilities by batch and scale.

    These stay on the host: 4 bytes for every image, token and code.
    """
    drawn = [np.full((len(task.labels), n), -1, np.int32) for n in task.trunk.schedule.lengths]
    run, logits = _run(task, params, compression, drawn, None, progress)
    return run, logits


def run_policy(
    task: Task,
    params: dict[str, Params],
    compression: Compression,
    tokens: Sequence[np.ndarray],
    reference: Sequence[tuple[np.ndarray, ...]],
    progress: Callable[[int], None],
) -> PolicyRun:
    """A policy's run; the same images are also forced along the `tokens` of the full cache.

    `reference` are the full run's log-probabilities. `params` have the compression's heads.
    """
    return _run(task, params, compression, tokens, reference, progress)[0]


def _run(task, params, compression, tokens, reference, progress):
    parts, kept, step = [], [], min(task.batch_size, len(task.labels))
    program, compile_seconds, seconds = None, 0.0, 0.0
    for number, first in enumerate(range(0, len(task.labels), step)):
        # The last batch is filled up, so that all have one shape and one program.
        rows = np.minimum(np.arange(first, first + step), len(task.labels) - 1)
        arguments = (
            params,
            task.labels[rows],
            task.keys[rows],
            task.filters,
            [scale[rows] for scale in tokens],
            compression,
        )
        if program is None:
            begun = time.monotonic()
            program = _both.lower(task.trunk, task.tokenizer, *arguments).compile()
            compile_seconds = time.monotonic() - begun
        begun = time.monotonic()
        images, drawn, logs = jax.block_until_ready(program(*arguments))
        seconds += (time.monotonic() - begun) / (2 * step)  # each image is drawn twice
        if reference is None:
            kept.append(jax.device_get(logs))
            divergence = np.zeros((step, len(logs)), np.float32)
        else:
            divergence = jax.device_get(_divergence(reference[number], logs))
        parts.append((*jax.device_get((images, drawn)), divergence))
        progress(min(first + step, len(task.labels)))
    batches = len(parts)
    images, drawn, divergence = jax.tree.map(
        lambda *arrays: np.concatenate(arrays)[: len(task.labels)], *parts
    )
    peak = program_memory(program).peak
    run = PolicyRun(images, drawn, divergence, compile_seconds, seconds / batches, peak)
    return run, kept


@partial(jax.jit, static_argnames=("trunk", "tokenizer"))
def _both(trunk, tokenizer, params, labels, keys, filters, tokens, compression):
    """Images and tokens drawn freely, and log-probabilities along given tokens.

    Both halves of the batch run as one program: only one is compiled for every policy.
    """
    trunk = trunk.bind({"params": params["trunk"]})
    tokenizer = tokenizer.bind({"params": params["tokenizer"]})
    batch = labels.shape[0]
    labels, keys = jnp.tile(labels, 2), jnp.concatenate([keys, keys])
    forced = [jnp.concatenate([jnp.full_like(scale, -1), scale]) for scale in tokens]
    steps = list(
        generate_scales(
            trunk, tokenizer, labels, keys, filters, compression=compression, forced=forced
        )
    )
    images = tokenizer.decode(steps[-1].running[:batch])
    logs = tuple(jax.nn.log_softmax(step.logits[batch:]) for step in steps)
    return images, tuple(step.tokens[:batch] for step in steps), logs


@jax.jit
def _divergence(reference, logs):
    """KL divergence in nats for every image and scale, mean over tokens: [batch, scales].

    Never below zero, which rounding could make it.
    """

    def one_scale(exact, other):
        shares = jnp.sum(jnp.exp(exact) * (exact - other), axis=-1)
        return jnp.mean(jnp.maximum(shares, 0), axis=-1)

    return jnp.stack([one_scale(*pair) for pair in zip(reference, logs)], axis=-1)
