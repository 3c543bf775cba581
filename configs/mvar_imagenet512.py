r"""M-VAR on ImageNet 512x512, trained as VAR is at that size.

    python -m mvar_jax.convert import --checkpoint=vae_ch160v4096z32.pth --out=runs/vae_512 \
        --schedule=1,2,3,4,6,9,13,18,24,32
    python -m mvar_jax.train --config=configs/mvar_imagenet512.py:d24 \
        --config.data.directory=/data/imagenet --tokenizer=runs/vae_512 --workdir=runs/own_mvar_d24

Presets d24, d36. Neither weights nor training commands of M-VAR at 512x512 are public, and its
public code cannot share one adaLN projection. These configs have what VAR's model of 512x512 has,
the scales and a shared projection, here onto the nine vectors of a block, and the published recipe
of their depth: M-VAR's of d24, VAR's of d36. `data.directory` holds the tar files of ImageNet
(docs/data.md), `--tokenizer` is a working directory with the official tokenizer, imported by itself
with that `--schedule` or beside a model of 512x512.
"""

from mvar_jax.config.recipes import imagenet512


def get_config(preset: str = "d24"):
    """The config of one depth."""
    return imagenet512(preset, ("scale+ssm",), (24, 36), file="mvar_imagenet512.py")
