"""VAR and M-VAR on rendered scenes of ten kinds of objects, at 64x64 and 256x256 pixels.

    python -m mvar_jax.train_tokenizer --config=configs/shapes.py:var64 --workdir=runs/shapes
    python -m mvar_jax.train --config=configs/shapes.py:var64 --workdir=runs/shapes

`var64` and `mvar64` are sized for under an hour on two CPU cores. `var256` and `mvar256`, with the
ten scales of the published models, are for one accelerator. `runlocal` is a smoke run on 200
images, on an untrained tokenizer if need be.
"""

from mvar_jax.config import Config
from mvar_jax.config.files import check_preset
from mvar_jax.config.tree import to_config_dict
from mvar_jax.scales import VAR_256, ScaleSchedule

PATTERNS = {"var": ("history",), "mvar": ("scale+ssm",)}


def get_config(preset: str = "var64", file: str = "shapes.py"):
    """The config of a model and an image size, or of a smoke run; `file` was asked for it."""
    check_preset(preset, ("var64", "mvar64", "var256", "mvar256", "runlocal"), file)
    config = to_config_dict(Config())
    config.model.num_classes = 10
    config.model.pattern = PATTERNS["mvar" if preset.startswith("mvar") else "var"]
    config.sampling.update(guidance=2.5, top_k=0, top_p=0.95)
    if preset.endswith("256"):
        _large(config)
    else:
        _small(config)
    if preset == "mvar64":
        config.training.steps = 3000  # its steps take twice as long as those of var64
    if preset == "runlocal":
        _smoke(config)
    return config


def _small(config):
    """64x64 pixels in tokens of 8x8, for two CPU cores: small batches, so that updates are many."""
    config.batch_size = 8
    config.data.update(name="shapes/64", augmentation="none", num_threads=0)
    config.tokenizer.update(
        image_size=(64, 64),
        scales=ScaleSchedule.squares(1, 2, 3, 4, 5, 6, 8).sizes,
        vocabulary=512,
        code_channels=8,
        base_channels=32,
        channel_multipliers=(1, 2, 4),
        blocks_per_level=1,
        stem_stride=2,  # at full resolution most of the time would go to two layers
        norm_groups=16,
        attention=False,
    )
    rates = {"warmup_fraction": 0.05, "final_fraction": 0.01}
    intervals = {"log_every": 100, "validate_every": 500, "save_every": 500}
    config.tokenizer_optimizer.update(
        learning_rate=32e-3, weight_decay=0.0, final_weight_decay=0.0, **rates
    )
    config.tokenizer_training.update(steps=3000, **intervals)
    config.codebook.restart_below = 0.2
    config.model.update(depth=8, width=128, heads=4, scan=False, remat="none")
    config.model.ssm.update(state_size=32, head_dim=64)
    config.model.init.gate = 0.1
    config.optimizer.update(learning_rate=64e-3, **rates)
    config.training.update(steps=5000, ema_decay=0.995, **intervals)


def _large(config):
    """256x256 pixels in tokens of 16x16 at the published ten scales, for one accelerator."""
    config.batch_size = 64
    config.data.update(name="shapes/256", augmentation="none", num_threads=16)
    config.tokenizer.update(
        image_size=(256, 256),
        scales=VAR_256.sizes,
        vocabulary=2048,
        code_channels=32,
        base_channels=64,
        channel_multipliers=(1, 1, 2, 2, 4),
    )
    rates = {"warmup_fraction": 0.05, "final_fraction": 0.01}
    intervals = {"log_every": 100, "validate_every": 1000, "save_every": 1000}
    config.tokenizer_optimizer.update(
        learning_rate=2e-3, weight_decay=0.0, final_weight_decay=0.0, **rates
    )
    config.tokenizer_training.update(steps=4000, **intervals)
    config.model.update(depth=12, width=512, heads=16, compute_dtype="bfloat16")
    config.model.init.gate = 0.1
    config.optimizer.update(learning_rate=2e-3, **rates)
    config.training.update(steps=8000, ema_decay=0.999, **intervals)


def _smoke(config):
    config.allow_untrained_tokenizer = True
    config.data.name = "shapes/64-200"
    config.model.depth = 2
    smoke = {"log_every": 5, "validate_every": 20, "save_every": 10}
    config.tokenizer_training.update(steps=20, **smoke)
    config.training.update(steps=20, ema_decay=0.8, **smoke)
