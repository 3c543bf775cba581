"""Runs policies of cache compression on one model, with the same conditions and noise for all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import jax
import numpy as np

from mvar_jax.array_types import batch_size as count_images
from mvar_jax.cache import Compression, Profile, evicts, prepare_compression
from mvar_jax.checks import check
from mvar_jax.evaluation.comparison import (
    Comparison,
    Measures,
    Row,
    make_duels,
    make_row,
    measure,
)
from mvar_jax.evaluation.judges import Judged, Judges
from mvar_jax.evaluation.policy_run import PolicyRun, Task, run_full, run_policy
from mvar_jax.models import Condition
from mvar_jax.sampling import Filters
from mvar_jax.sampling.model import Model

SHOWN = 10  # images of every run in the picture


def compare_policies(
    model: Model,
    policies: Sequence[str],
    ratios: Sequence[float],
    *,
    condition: Condition,
    seed: int,
    batch_size: int,
    profile: Profile | None,
    accuracy: Callable[[np.ndarray], float] | None,
    judges: Judges,
    progress: Callable[[str], Callable[[int], None]],
) -> Iterator[Comparison]:
    """Runs the full cache, then every policy at every ratio, "full+int8" and the like once.

    Yields the comparison so far after every run, so that an interrupted comparison leaves the
    finished part. A ratio that a policy refuses, such as a budget below its window, is recorded and
    skipped. Raises ValueError for unknown policies, if nothing can run, and where images are too
    small for a judge.

    policies: names as `parse_policy` takes them
    ratios: shares of the tokens to evict, above 0 and below 1
    condition, seed: what the images of every run are of, and the seed of their noise
    batch_size: images per batch
    profile: of the model, for policies that need one
    accuracy: returns the share of images in [-1, 1] that a classifier recognises
    judges: networks that compare the images with the full cache's
    progress: takes the name of a run, returns a function that reports the number of images done
    """
    samples = count_images(condition)
    judges.check_fit(model.config.tokenizer.image_size)
    filters = Filters.of(model.config.sampling, len(model.sampler.scales))
    task = Task(model.sampler, condition, seed, filters, batch_size)
    prepared, refused = _prepare(model, policies, ratios, profile=profile)
    check(len(prepared) > 0, f"--policies: none can run: {'; '.join(refused.values())}")
    schedule = model.sampler.scales
    full_cache = prepare_compression("full", schedule, model.trunk.attention_shape)
    weights = replace(model.weights, compression=full_cache)
    full, reference = run_full(task, weights, progress=progress("full"))
    results = _Results(model, full, accuracy, Judged(judges, full.images))
    results.add(("full", 0.0), full, full_cache)
    for key, small in prepared.items():
        shown = progress(f"{key[0]} {key[1]:g}")
        run = run_policy(task, small.weights, full.tokens, reference=reference, progress=shown)
        results.add(key, run, small.weights.compression)
        jax.clear_caches()  # programs that will not run again; dozens exhaust a process
        yield Comparison(
            rows=tuple(results.rows),
            duels=tuple(make_duels(results.measures)),
            refused=refused,
            images=dict(results.images),
            samples=samples,
            batch_size=batch_size,
            tokens=schedule.total,
            history=schedule.total - schedule.lengths[-1],
        )


@dataclass
class _Results:
    """The results of the runs so far, by policy and ratio."""

    model: Model
    full: PolicyRun
    accuracy: Callable[[np.ndarray], float] | None
    judged: Judged  # the full cache's images
    rows: list[Row] = field(default_factory=list)
    measures: dict[tuple[str, float], Measures] = field(default_factory=dict)
    images: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, key: tuple[str, float], run: PolicyRun, compression: Compression) -> None:
        """Adds the run of a policy at a ratio, or that of the full cache itself."""
        policy, ratio = key
        judged, itself = self.judged, run is self.full
        row = make_row(
            run,
            self.full,
            compression,
            policy=policy,
            ratio=ratio,
            head_dim=self.model.config.model.head_dim,
            dtype=self.model.trunk.dtype,
            accuracy=None if self.accuracy is None else self.accuracy(run.images),
            distances=judged.compare_with_themselves() if itself else judged.compare(run.images),
        )
        self.rows.append(row)
        self.measures[key] = measure(run, self.full)
        self.images[f"{policy} {ratio:g}"] = run.images[:SHOWN]


def _prepare(model, policies, ratios, *, profile):
    """Compressed models by policy and ratio, and the errors of those that are not possible."""
    prepared, refused = {}, {}
    for name in policies:
        for ratio in ratios if evicts(name) else (0.0,):
            try:
                prepared[name, ratio] = model.compressed(
                    name, ratio=ratio if evicts(name) else None, profile=profile
                )
            except ValueError as error:
                refused[f"{name} {ratio:g}"] = str(error)
    return prepared, refused
