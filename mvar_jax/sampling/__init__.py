"""Sampling: from conditions to images, scale by scale, and calibration of cache policies."""

from mvar_jax.sampling.calibrate import Calibration, calibrate
from mvar_jax.sampling.generate import Generation, Step, generate, generate_scales, grow, stream
from mvar_jax.sampling.model import Model, Samples
from mvar_jax.sampling.request import Draft, Filters, Forced, Request, Sampler, Weights

__all__ = [
    "Calibration",
    "Draft",
    "Filters",
    "Forced",
    "Generation",
    "Model",
    "Request",
    "Sampler",
    "Samples",
    "Step",
    "Weights",
    "calibrate",
    "generate",
    "generate_scales",
    "grow",
    "stream",
]
