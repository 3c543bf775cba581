"""Tokenizers of their own, trained for looks: closeness, LPIPS and a discriminator.

    python -m mvar_jax.train_tokenizer --config=tokenizer.py:vq_imagenet256 --workdir=runs/vq

`vq_imagenet256` is trained as VAR's authors train theirs (FoundationVision/vaex), with a PatchGAN
in place of a discriminator on DINO's features; `bsq_imagenet256`, of 32 bits, with the losses of
Infinity's (FoundationVision/InfinityStar), whose batch and length are not published.
docs/tokenizers.md says what each loss does and costs.
"""

from mvar_jax.checks import check
from mvar_jax.config import Config, infinity_schedule
from mvar_jax.config.infinity import tokenizer_settings
from mvar_jax.config.tree import to_config_dict


def get_config(preset: str = "vq_imagenet256"):
    """The config of a tokenizer for images of 256x256."""
    presets = {"vq_imagenet256": _vq, "bsq_imagenet256": _bsq}
    check(
        preset in presets,
        f"config preset: got {preset!r}, expected one of {', '.join(presets)}, "
        "as in --config=configs/tokenizer.py:vq_imagenet256.",
    )
    config = to_config_dict(Config())
    config.tokenizer_training.ema_decay = 0.9999
    presets[preset](config)
    return config


def _vq(config):
    config.batch_size = 768
    config.tokenizer_training.epochs = 250.0
    config.tokenizer_loss.update(
        l1=0.2,
        l2=1.0,
        lpips=1.0,
        adversarial=0.4,
        adversarial_start=0.22,
        adversarial_ramp=0.02,
        adaptive_clamp=(0.015, 1e4),
        diffaug=True,
    )
    shared = {
        "learning_rate": 1e-4,  # 3e-4 for 768 images
        "schedule": "cos",
        "warmup_fraction": 0.0,
        "final_fraction": 0.3,
        "beta1": 0.5,
        "beta2": 0.9,
        "clip_norm": 10.0,
    }
    for optimizer, decay in (("tokenizer_optimizer", 5e-3), ("discriminator_optimizer", 5e-4)):
        config[optimizer].update(weight_decay=decay, final_weight_decay=decay, **shared)


def _bsq(config):
    config.batch_size = 256
    config.tokenizer_training.epochs = 100.0
    config.tokenizer.update(tokenizer_settings(32, infinity_schedule("1", "0.06M")))
    config.tokenizer_loss.update(
        l1=4.0,
        l2=0.0,
        lpips=4.0,  # as much as L1, in TATS (arXiv 2204.03638), whose losses these are
        adversarial=1.0,
        adaptive=False,
        lecam=0.05,
    )
    for optimizer in ("tokenizer_optimizer", "discriminator_optimizer"):
        config[optimizer].update(
            learning_rate=1e-4, schedule="constant", beta1=0.9, beta2=0.95, clip_norm=1.0
        )
