"""Tokenizers: images to token maps of every scale, and back."""

from mvar_jax.config import TokenizerConfig
from mvar_jax.tokenizers.base import Tokenizer, Tokens, TokenSpace
from mvar_jax.tokenizers.bit_tokens import BitTokens
from mvar_jax.tokenizers.bsq_tokenizer import BSQTokenizer
from mvar_jax.tokenizers.token_space import CategoricalTokens
from mvar_jax.tokenizers.vq_tokenizer import VQTokenizer

__all__ = [
    "BSQTokenizer",
    "BitTokens",
    "CategoricalTokens",
    "TokenSpace",
    "Tokenizer",
    "Tokens",
    "VQTokenizer",
    "build_tokenizer",
]

KINDS = {"vq": VQTokenizer, "bsq": BSQTokenizer}


def build_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """The tokenizer of a config, without parameters."""
    return KINDS[config.quantizer](config)
