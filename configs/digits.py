"""M-VAR on handwritten digits: minutes on two CPU cores.

    python -m mvar_jax.quickstart --workdir=runs/digits

That trains both and reports on them. To train them by themselves, in place of it:

    python -m mvar_jax.train_tokenizer --config=configs/digits.py --workdir=runs/digits
    python -m mvar_jax.train --config=configs/digits.py --workdir=runs/digits

The preset `runlocal` is a smoke run of two minutes, on an untrained tokenizer if need be.
"""

from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.config.tree import to_config_dict


def get_config(preset: str = ""):
    """The config of a whole run, or of a smoke run."""
    check(
        preset in ("", "runlocal"),
        f"config preset: got {preset!r}, expected 'runlocal' or none, "
        "as in --config=configs/digits.py:runlocal.",
    )
    config = to_config_dict(Config())
    config.batch_size = 64
    config.data.update(name="digits", augmentation="shift", max_shift=1, num_threads=0)
    config.tokenizer.update(
        image_size=(32, 32),
        scales=((1, 1), (2, 2), (3, 3), (4, 4)),
        vocabulary=128,
        code_channels=8,
        base_channels=64,
        channel_multipliers=(1,),
        blocks_per_level=1,
        stem_stride=8,
        norm_groups=8,
        attention=False,
    )
    rates = {"warmup_fraction": 0.05, "final_fraction": 0.01}
    intervals = {"log_every": 50, "validate_every": 200, "save_every": 200}
    config.tokenizer_optimizer.update(
        learning_rate=16e-3, weight_decay=0.0, final_weight_decay=0.0, **rates
    )
    config.tokenizer_training.update(steps=1000, **intervals)
    config.model.update(num_classes=10, depth=4, width=128, heads=2, remat="none")
    config.model.ssm.update(state_size=32, head_dim=64)
    config.model.init.gate = 0.1
    config.optimizer.update(learning_rate=12e-3, **rates)
    config.training.update(steps=400, ema_decay=0.99, **intervals)
    config.sampling.update(guidance=0.5, top_k=0, top_p=0.0)
    if preset == "runlocal":
        config.allow_untrained_tokenizer = True
        config.batch_size = 16
        config.model.depth = 2
        smoke = {"log_every": 5, "validate_every": 20, "save_every": 10}
        config.tokenizer_training.update(steps=40, **smoke)
        config.training.update(steps=40, ema_decay=0.9, **smoke)  # of what these steps learned
    return config
