"""Infinity: images of texts, at the official sizes.

    python -m mvar_jax.convert import --checkpoint=infinity_2b_reg.pth --out=runs/infinity_2b
    python -m mvar_jax.compile_check --sample --config=configs/infinity.py:2b --topology=v5e:2x2

The presets are 125m, 361m, 940m, 2b, 2.2b, 4.7b, 8b and 8.8b; 2b and 8b are the released models.
Behind an @ there may be a budget of pixels: 2b@0.06M is for images of 256x256, 0.25M of 512x512,
0.60M of 768x768 and 1M, the default, of 1024x1024.
"""

from mvar_jax.config.infinity import infinity


def get_config(preset: str = "2b"):
    """The config of an official size."""
    return infinity(preset)
