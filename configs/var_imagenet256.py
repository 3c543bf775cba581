"""VAR on ImageNet 256x256, as published.

    python -m mvar_jax.train --config=configs/var_imagenet256.py:d16 --workdir=runs/var_d16

Presets d16, d20, d24, d30. `data.directory` must hold the tar files of ImageNet
(docs/data.md), `--tokenizer` is a working directory with the official tokenizer.
"""

from mvar_jax.config.recipes import imagenet256


def get_config(preset: str = "d16"):
    """The config of one depth."""
    return imagenet256(preset, ("history",), (16, 20, 24, 30))
