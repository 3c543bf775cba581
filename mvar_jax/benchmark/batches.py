"""What `sample` and `train` share: a row of measurements for every number of images."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from absl import flags, logging

from mvar_jax import cli
from mvar_jax.benchmark import common
from mvar_jax.benchmark.placed import check_batch_fits, local_mesh
from mvar_jax.benchmark.reference import (
    OfficialError,
    Reference,
    check_reference,
    started_reference,
)
from mvar_jax.benchmark.rows import Rows
from mvar_jax.benchmark.seconds import Run
from mvar_jax.config import Config
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.models.narrowing import narrowed
from mvar_jax.sampling import Weights
from mvar_jax.training.weights import init_tokenizer, init_trunk


@dataclass(frozen=True)
class Case:
    """What a row measures: `repeats` runs of so many images, by weights of a start.

    `official` runs the same by the official code, in turn with ours.
    """

    config: Config  # with the number of images as its batch size
    weights: Weights
    repeats: int
    official: Run | None


def define_flags() -> None:
    """Defines the flags of both commands."""
    common.define_common(repeats=5)
    common.define_batch()
    common.define_reference()


def measure_batches(
    run: str,
    columns: Mapping[str, tuple[str, str]],
    measure: Callable[[Case], dict[str, Any]],
    *,
    parts: int = 1,
) -> None:
    """Prints a row of `columns` for every number of images, and keeps it where the flags say so.

    Where a checkout is given, its process runs `run`, "sample" or "train", in turn with ours. Where
    that fails the row is ours alone. A batch is computed in `parts` parts.
    """
    config, batches = cli.get_config(), common.get_batches()
    rows, reference = Rows(columns, cli.json_file()), common.get_reference()
    if reference:
        check_reference(config, **reference)
        # JAX would keep three quarters of a GPU's memory for itself.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with local_mesh(config, batches, parts), ExitStack() as stack:
        for batch in batches:
            check_batch_fits(config, batch, parts)
        about = common.describe(config)
        cli.say(common.machine_line(about))
        weights = Weights(init_trunk(config), init_tokenizer(config))
        official = None
        if reference:
            official = stack.enter_context(started_reference(config, weights, **reference))
        if run == "sample":
            trunk = narrowed(weights.trunk, config.model.compute_dtype)
            weights = replace(weights, trunk=trunk).with_kernels()
        progress = stack.enter_context(TaskProgress("measuring", len(batches), "batch"))
        for batch in batches:
            own = replace(config, batch_size=batch)
            case = Case(own, weights, flags.FLAGS.repeats, _run(official, run, batch))
            measured = _measured(measure, case)
            rows.add(about | {"batch": batch} | measured | _shares(about, measured))
            progress.advance()


def _run(official: Reference | None, run: str, batch: int) -> Run | None:
    return None if official is None else partial(official.seconds, run, batch)


def _measured(measure: Callable[[Case], dict[str, Any]], case: Case) -> dict[str, Any]:
    """A row, without the official code where that fails, as where its memory is too small."""
    try:
        return measure(case)
    except OfficialError as error:
        logging.warning("%d images by the official code: %s", case.config.batch_size, error)
        return measure(replace(case, official=None))


def _shares(about: dict[str, Any], measured: dict[str, Any]) -> dict[str, float]:
    """What a run reaches of this machine's own rates, by the compiler's count."""
    seconds = measured["seconds"]
    return {
        "share_of_matmul": measured["flops"] / seconds / about["matmul_flops_per_second"],
        "share_of_copy": measured["bytes_moved"] / seconds / about["copy_bytes_per_second"],
    }
