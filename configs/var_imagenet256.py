r"""VAR on ImageNet 256x256, as published.

    python -m mvar_jax.convert import --checkpoint=vae_ch160v4096z32.pth --out=runs/vae
    python -m mvar_jax.train --config=configs/var_imagenet256.py:d16 \
        --config.data.directory=/data/imagenet --tokenizer=runs/vae --workdir=runs/own_var_d16

Presets d16, d20, d24, d30. `data.directory` holds the tar files of ImageNet
(docs/data.md), `--tokenizer` is a working directory with the official tokenizer.
"""

from mvar_jax.config.recipes import imagenet256


def get_config(preset: str = "d16"):
    """The config of one depth."""
    return imagenet256(preset, ("history",), (16, 20, 24, 30), file="var_imagenet256.py")
