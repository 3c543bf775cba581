r"""VAR on ImageNet 512x512, as published.

    python -m mvar_jax.convert import --checkpoint=vae_ch160v4096z32.pth --out=runs/vae_512 \
        --schedule=1,2,3,4,6,9,13,18,24,32
    python -m mvar_jax.train --config=configs/var_imagenet512.py:d36 \
        --config.data.directory=/data/imagenet --tokenizer=runs/vae_512 --workdir=runs/own_var_d36

The preset is d36. `data.directory` holds the tar files of ImageNet (docs/data.md), `--tokenizer` is
a working directory with the official tokenizer, imported by itself with that `--schedule` or beside
a model of 512x512.
"""

from mvar_jax.config.recipes import imagenet512


def get_config(preset: str = "d36"):
    """The config of one depth."""
    return imagenet512(preset, ("history",), (36,), file="var_imagenet512.py")
