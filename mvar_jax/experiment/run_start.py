"""What a run writes before its first step."""

import sys

from absl import logging

from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.workdir import RunRecord, Workdir


def check_init(flag: str, run: Workdir | None, own: Workdir) -> None:
    """Raises ValueError where there is no such run to start from; says where none is needed."""
    if run is None:
        return
    if own.is_trained:
        logging.warning("%s: is trained, so that %s is not looked at.", own.path, flag)
        return
    check(
        run.path.is_dir(),
        f"{flag}: got {run.path}, where there is no folder; expected a working directory.",
    )


def save_start(workdir: Workdir, config: Config, record: RunRecord) -> None:
    """Writes what a run is started as, and says at which learning rate."""
    workdir.save_config(config)
    workdir.save_record(record)
    optimizer = config.optimizer if record.tokenizer else config.tokenizer_optimizer
    sys.stderr.write(
        f"{'trunk' if record.tokenizer else 'tokenizer'}: the learning rate rises to "
        f"{optimizer.peak(config.batch_size):.3g}, {optimizer.learning_rate:.3g} x batch size "
        f"{config.batch_size} / 256\n"
    )
