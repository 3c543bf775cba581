"""Text encoders: the encoder of T5 v1.1, word embeddings, and features stored ahead."""

from mvar_jax.text.encoder import TextEncoder
from mvar_jax.text.feature_file import StoredFeatures, read_features, write_features
from mvar_jax.text.features import TextFeatures
from mvar_jax.text.t5 import FLAN_T5, T5Config
from mvar_jax.text.t5_encoder import T5Encoder
from mvar_jax.text.word_embeddings import WordEmbeddings

__all__ = [
    "FLAN_T5",
    "StoredFeatures",
    "T5Config",
    "T5Encoder",
    "TextEncoder",
    "TextFeatures",
    "WordEmbeddings",
    "read_features",
    "write_features",
]
