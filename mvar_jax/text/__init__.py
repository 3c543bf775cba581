"""Texts as conditions: features of their tokens."""

from mvar_jax.text.features import TextFeatures

__all__ = ["TextFeatures"]
