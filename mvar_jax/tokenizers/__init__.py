"""Tokenizers: images to token maps of every scale, and back."""

from mvar_jax.tokenizers.token_space import CategoricalTokens
from mvar_jax.tokenizers.vq_tokenizer import VQTokenizer

__all__ = ["CategoricalTokens", "VQTokenizer"]
