"""Sampling: from labels to images, scale by scale, and calibration of cache policies."""

from mvar_jax.sampling.calibrate import Calibration, calibrate
from mvar_jax.sampling.generate import (
    Filter,
    Generation,
    Step,
    generate,
    generate_scales,
    grow,
    image_keys,
)

__all__ = [
    "Calibration",
    "Filter",
    "Generation",
    "Step",
    "calibrate",
    "generate",
    "generate_scales",
    "grow",
    "image_keys",
]
