"""What `sample` and `train` share: a row of measurements for every number of images."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from absl import flags

from mvar_jax import cli
from mvar_jax.benchmark import common
from mvar_jax.benchmark.machine import describe_machine
from mvar_jax.benchmark.placed import local_mesh
from mvar_jax.benchmark.reference import started_reference
from mvar_jax.benchmark.rows import Rows
from mvar_jax.config import Config
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.sampling import Weights
from mvar_jax.training.weights import init_tokenizer, init_trunk

Official = Callable[[], tuple[float, float]]
Measure = Callable[[Config, Weights, int, int, Official | None], dict[str, Any]]


def define_flags() -> None:
    """Defines the flags of both commands."""
    common.define_common(repeats=5)
    common.define_batch()
    common.define_reference()


def measure_batches(
    run: str, columns: Mapping[str, tuple[str, str]], measure: Measure, *, parts: int = 1
) -> None:
    """Prints a row of `columns` for every number of images, and keeps it where the flags say so.

    `measure` gets the config, weights of a start, the number of images, that of repeats, and where
    a checkout is given what runs the official code: `run`, "sample" or "train", of its process. A
    batch is computed in `parts` parts.
    """
    config, batches = cli.get_config(), common.get_batches()
    rows, reference = Rows(columns, common.json_file()), common.get_reference()
    with local_mesh(config, batches, parts), ExitStack() as stack:
        about = {"model": common.config_name()} | describe_machine(config.model.compute_dtype)
        weights = Weights(init_trunk(config), init_tokenizer(config))
        seconds = None
        if reference:
            running = stack.enter_context(started_reference(config, weights, **reference))
            seconds = partial(running.seconds, run)
        progress = stack.enter_context(TaskProgress("measuring", len(batches), "batch"))
        for batch in batches:
            official = None if seconds is None else partial(seconds, batch)
            measured = measure(config, weights, batch, flags.FLAGS.repeats, official)
            if batch == batches[0]:
                cli.say(common.machine_line(about))
            rows.add(about | {"batch": batch} | measured | _shares(about, measured))
            progress.advance()


def _shares(about: dict[str, Any], measured: dict[str, Any]) -> dict[str, float]:
    """What a run reaches of this machine's own rates, by the compiler's count."""
    seconds = measured["seconds"]
    return {
        "share_of_matmul": measured["flops"] / seconds / about["matmul_flops_per_second"],
        "share_of_copy": measured["bytes_moved"] / seconds / about["copy_bytes_per_second"],
    }
