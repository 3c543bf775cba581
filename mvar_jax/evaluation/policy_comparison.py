"""Runs policies of cache compression on one model, with the same labels and noise for all."""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from mvar_jax.cache import POLICIES, Profile, parse_policy, prepare_compression
from mvar_jax.checks import check
from mvar_jax.evaluation.comparison import Comparison, make_duels, make_row, measure
from mvar_jax.evaluation.policy_run import Task, run_full, run_policy
from mvar_jax.models import ClassLabels
from mvar_jax.sampling import Filters
from mvar_jax.sampling.model import Model

SHOWN = 10  # images of every run that are kept for a picture


def compare_policies(
    model: Model,
    policies: Sequence[str],
    ratios: Sequence[float],
    samples: int,
    seed: int,
    batch_size: int,
    profile: Profile | None,
    accuracy: Callable[[np.ndarray, np.ndarray], float] | None,
    progress: Callable[[str], Callable[[int], None]],
) -> Iterator[Comparison]:
    """Runs the full cache, then every policy at every ratio, "full+int8" and the like once.

    Yields what is known after every run, so that a long comparison that is ended leaves a part.
    `accuracy` judges images in [-1, 1] and labels, if there is a judge; `progress` is told the name
    of every run and gives what is told the number of images done. What a policy refuses, such as a
    budget below its window, is noted and left out. Raises ValueError for unknown policies, and
    when nothing is left to run.
    """
    labels = np.arange(samples, dtype=np.int32) % model.config.model.num_classes
    filters = Filters.of(model.config.sampling, len(model.sampler.scales))
    task = Task(model.sampler, ClassLabels(labels), seed, filters, batch_size)
    prepared, refused = _prepare(model, policies, ratios, profile)
    check(len(prepared) > 0, f"--policies: none can run: {'; '.join(refused.values())}")
    schedule = model.sampler.scales
    full_cache = prepare_compression("full", schedule, model.trunk.attention_shape)
    weights = model.weights.replace(compression=full_cache)
    full, reference = run_full(task, weights, progress=progress("full"))
    rows, measures, images = [], {}, {}

    def add(key, run, compression):
        judged = None if accuracy is None else accuracy(run.images, labels)
        head_dim, dtype = model.config.model.head_dim, model.trunk.dtype
        rows.append(make_row(*key, run, full, compression, head_dim, dtype, judged))
        measures[key] = measure(run, full)
        images[f"{key[0]} {key[1]:g}"] = run.images[:SHOWN]

    add(("full", 0.0), full, full_cache)
    for key, small in prepared.items():
        shown = progress(f"{key[0]} {key[1]:g}")
        run = run_policy(task, small.weights, full.tokens, reference=reference, progress=shown)
        add(key, run, small.weights.compression)
        jax.clear_caches()  # programs that will not run again; dozens exhaust a process
        yield Comparison(
            rows=tuple(rows),
            duels=tuple(make_duels(measures)),
            refused=refused,
            images=dict(images),
            samples=samples,
            batch_size=batch_size,
            tokens=schedule.total,
            history=schedule.total - schedule.lengths[-1],
        )


def _prepare(model, policies, ratios, profile):
    """Models by policy and ratio, and the sentences of those that cannot be."""
    prepared, refused = {}, {}
    for name in policies:
        keeps_all = parse_policy(name)[0] is POLICIES["full"]
        for ratio in (0.0,) if keeps_all else ratios:
            try:
                prepared[name, ratio] = model.compressed(
                    name, ratio=None if keeps_all else ratio, profile=profile
                )
            except ValueError as error:
                refused[f"{name} {ratio:g}"] = str(error)
    return prepared, refused
