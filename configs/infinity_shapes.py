r"""Infinity and a text-conditioned M-VAR on captioned scenes, at 64x64 pixels.

    pip install -e '.[words]'
    python -m mvar_jax.train_tokenizer --config=configs/infinity_shapes.py:tiny --workdir=runs/texts
    python -m mvar_jax.train --config=configs/infinity_shapes.py:tiny --workdir=runs/texts
    python -m mvar_jax.sample --workdir=runs/texts --out=grid.png \
        --prompt="a large dark red plain gear on pale green"

Captions are drawn from the scenes' own parameters; one in eight combinations of class and hue is
kept out of training. `tiny` is an Infinity, `tiny_mvar` has M-VAR's mixers and cross-attention. On
two CPU cores `tiny` trains in about half an hour, `tiny_mvar` takes longer. `runlocal` is a smoke
run.
"""

from mvar_jax.config import Config
from mvar_jax.config.files import check_preset
from mvar_jax.config.tree import to_config_dict
from mvar_jax.scales import ScaleSchedule

PATTERNS = {"tiny": ("history+text",), "tiny_mvar": ("scale+ssm+text",)}
WORDS = 256  # channels of the word embeddings


def get_config(preset: str = "tiny"):
    """The config of a model, or of a smoke run."""
    check_preset(preset, (*PATTERNS, "runlocal"), "infinity_shapes.py")
    config = to_config_dict(Config())
    config.batch_size = 8
    config.data.update(name="shapes/64", augmentation="none", num_threads=0)
    config.data.update(captions=True, text_encoder="wordllama")
    config.sampling.update(guidance=3.0, guidance_ramp=False, top_k=0, top_p=0.95, temperature=0.5)
    rates = {"warmup_fraction": 0.05, "final_fraction": 0.01}
    intervals = {"log_every": 100, "validate_every": 500, "save_every": 500}
    config.tokenizer.update(
        quantizer="bsq",
        image_size=(64, 64),
        scales=ScaleSchedule.squares(1, 2, 3, 4, 5, 6, 8).sizes,
        code_channels=24,
        base_channels=96,
        channel_multipliers=(1,),
        blocks_per_level=1,
        stem_stride=8,  # patches: what docs/infinity.md measured
        norm_groups=16,
        attention=False,
        flip_rate=0.2,
    )
    config.tokenizer_optimizer.update(
        learning_rate=80e-3, weight_decay=0.0, final_weight_decay=0.0, **rates
    )
    config.tokenizer_training.update(steps=8000, **intervals)
    config.model.update(
        condition="text",
        depth=6,
        width=128,
        heads=4,
        pattern=PATTERNS.get(preset, PATTERNS["tiny"]),
        positions="rotary",
        levels=7,
        shared_modulation=True,
        scan=False,
        remat="none",
    )
    config.model.text.update(channels=WORDS, max_length=32)
    config.model.ssm.update(state_size=32, head_dim=64)
    config.model.init.update(gate=0.1)
    config.optimizer.update(learning_rate=64e-3, **rates)
    config.training.update(steps=6000, ema_decay=0.995, **intervals)
    if preset == "runlocal":
        _smoke(config)
    return config


def _smoke(config):
    config.allow_untrained_tokenizer = True
    config.data.name = "shapes/64-200"
    config.model.depth = 2
    smoke = {"log_every": 5, "validate_every": 20, "save_every": 10}
    config.tokenizer_training.update(steps=20, **smoke)
    config.training.update(steps=20, ema_decay=0.8, **smoke)
