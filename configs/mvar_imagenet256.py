r"""M-VAR on ImageNet 256x256, as published.

    python -m mvar_jax.convert import --checkpoint=vae_ch160v4096z32.pth --out=runs/vae
    python -m mvar_jax.train --config=configs/mvar_imagenet256.py:d16 \
        --config.data.directory=/data/imagenet --tokenizer=runs/vae --workdir=runs/own_mvar_d16

Presets d12, d16, d20, d24, d30, d32. `data.directory` holds the tar files of ImageNet
(docs/data.md), `--tokenizer` is a working directory with the official tokenizer.
"""

from mvar_jax.config.recipes import imagenet256


def get_config(preset: str = "d16"):
    """The config of one depth."""
    config = imagenet256(
        preset, ("scale+ssm",), (12, 16, 20, 24, 30, 32), file="mvar_imagenet256.py"
    )
    # The published weights of these two depths are without the norm of queries and keys.
    config.model.qk_norm = preset not in ("d16", "d20")
    return config
