"""Tokenizers of their own, trained for looks: closeness, LPIPS, a discriminator, codes in use.

    python -m mvar_jax.train_tokenizer --config=tokenizer.py:vq_imagenet256 --workdir=runs/vq
    python -m mvar_jax.train_tokenizer --config=configs/tokenizer.py:photos64 \
        --config.data.directory=photos --workdir=runs/photos
    python -m mvar_jax.train --config=configs/tokenizer.py:photos64 \
        --config.data.directory=photos --workdir=runs/photos

`vq_imagenet256` is trained as VAR's authors train theirs (FoundationVision/vaex), with a PatchGAN
in place of a discriminator on DINO's features; `bsq_imagenet256`, of 32 bits, with the losses of
Infinity's (FoundationVision/InfinityStar), whose batch and length are not published.

`shapes64` (rendered scenes) and `photos64` (a folder of your own images) are for two CPU cores,
`photos128` for one accelerator: the models of `shapes.py` and `folder.py` with tokenizers of their
own. `shapes64` and `photos128` weigh the LPIPS of VGG16 late in the run, or train without where its
weights are missing, and drop scales. docs/tokenizers.md says what each setting does.
"""

from mvar_jax.config import Config, infinity_schedule
from mvar_jax.config.files import check_preset, load_config
from mvar_jax.config.infinity import tokenizer_settings
from mvar_jax.config.tree import to_config_dict
from mvar_jax.scales import VAR_256


def get_config(preset: str = "vq_imagenet256"):
    """The config of a tokenizer, and of a model to train on it."""
    presets = {
        "vq_imagenet256": _vq,
        "bsq_imagenet256": _bsq,
        "shapes64": _shapes64,
        "photos64": _photos64,
        "photos128": _photos128,
    }
    check_preset(preset, presets, "tokenizer.py")
    return presets[preset]()


def _imagenet256():
    config = to_config_dict(Config())
    config.tokenizer_training.ema_decay = 0.9999
    return config


def _vq():
    config = _imagenet256()
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
    return config


def _bsq():
    config = _imagenet256()
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
    return config


def _for_looks(base):
    config = load_config(base)
    config.codebook.dropout_rate = 0.1
    config.tokenizer_loss.update(lpips=0.2, lpips_start=0.5, lpips_optional=True)
    return config


def _shapes64():
    config = _for_looks("shapes.py:var64")
    config.tokenizer_loss.lpips_every = 4  # two CPU cores
    return config


def _photos64():
    """Patches of 8x8 pixels: on two cores more steps make up for layers; LPIPS costs too many."""
    config = load_config("folder.py:var64")
    config.tokenizer.update(base_channels=96, channel_multipliers=(1,), stem_stride=8)
    config.tokenizer_optimizer.learning_rate = 0.08
    config.tokenizer_training.steps = 11000
    config.codebook.start_batches = 32
    return config


def _photos128():
    """Twice the side in four times the tokens, and the model of `folder.py:var256`."""
    config, large = _for_looks("folder.py:var64"), load_config("folder.py:var256")
    config.update({name: large[name] for name in ("batch_size", "model", "optimizer", "training")})
    config.tokenizer.update(
        image_size=(128, 128),
        scales=VAR_256.sizes,
        vocabulary=2048,
        code_channels=16,
        base_channels=64,
        attention=True,
    )
    config.tokenizer_optimizer.learning_rate = 2e-3
    config.tokenizer_training.steps = 8000
    return config
