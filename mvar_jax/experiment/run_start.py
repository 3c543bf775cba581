"""What a run writes before its first step."""

import sys

from mvar_jax.config import Config
from mvar_jax.workdir import RunRecord, Workdir


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
