"""VAR on ImageNet 512x512, as published.

    python -m mvar_jax.train --config=configs/var_imagenet512.py:d36 --workdir=runs/var_d36

The preset is d36. `data.directory` must hold the tar files of ImageNet (docs/data.md),
`--tokenizer` is a working directory with the official tokenizer, imported by itself with
`--schedule=1,2,3,4,6,9,13,18,24,32` or beside a model of 512x512.
"""

from mvar_jax.config.recipes import imagenet512


def get_config(preset: str = "d36"):
    """The config of one depth."""
    return imagenet512(preset, ("history",), (36,))
