"""Sampling: from labels to images, scale by scale."""

from mvar_jax.sampling.generate import Filter, Generation, Step, generate, generate_scales, grow

__all__ = ["Filter", "Generation", "Step", "generate", "generate_scales", "grow"]
