"""Samples for evaluation: exactly so many, the same however often their drawing was interrupted."""

from mvar_jax.evaluation.samples.drawing import SampleDrawing, weights_checksums
from mvar_jax.evaluation.samples.layouts import LAYOUTS, Layout, make_layout
from mvar_jax.evaluation.samples.manifest import SampleManifest, environment
from mvar_jax.evaluation.samples.writing import find_samples, write_samples

__all__ = [
    "LAYOUTS",
    "Layout",
    "SampleDrawing",
    "SampleManifest",
    "environment",
    "find_samples",
    "make_layout",
    "weights_checksums",
    "write_samples",
]
