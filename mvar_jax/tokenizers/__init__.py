"""Tokenizers: images to token maps of every scale, and back."""

from mvar_jax.config import TokenizerConfig
from mvar_jax.tokenizers.base import Tokenizer, Tokens, TokenSpace
from mvar_jax.tokenizers.token_space import CategoricalTokens
from mvar_jax.tokenizers.vq_tokenizer import VQTokenizer

__all__ = [
    "CategoricalTokens",
    "TokenSpace",
    "Tokenizer",
    "Tokens",
    "VQTokenizer",
    "build_tokenizer",
]


def build_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """The tokenizer of a config, without parameters."""
    return VQTokenizer(config)
