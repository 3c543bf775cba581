"""Finds the configuration of a T5 v1.1 encoder from the names and shapes of its tensors."""

from mvar_jax.checks import check
from mvar_jax.convert.shapes import Shapes
from mvar_jax.convert.t5_names import EMBEDDING, POSITION_BIAS
from mvar_jax.text import T5Config

LAYER = "encoder.block.0.layer"


def find_t5(shapes: Shapes, **settings) -> T5Config:
    """The encoder that has tensors of these names and shapes.

    `settings` are what tensors do not tell: the largest distance, the norm's epsilon and the
    compute dtype. Raises ValueError for a tensor that every such encoder has, and this one not, and
    for the first T5.
    """
    vocabulary, width = shapes[EMBEDDING, 2]
    check(
        f"{LAYER}.1.DenseReluDense.wi.weight" not in shapes,
        "its feed-forward has a single wi, as in the first T5, expected wi_0 and wi_1 of T5 v1.1 "
        "or Flan-T5",
    )
    buckets, heads = shapes[POSITION_BIAS, 2]
    inner, _ = shapes[f"{LAYER}.0.SelfAttention.q.weight", 2]
    hidden, _ = shapes[f"{LAYER}.1.DenseReluDense.wi_0.weight", 2]
    check(inner % heads == 0, f"its {heads} heads do not divide the {inner} rows of their queries")
    return T5Config(
        vocabulary=vocabulary,
        width=width,
        head_dim=inner // heads,
        hidden=hidden,
        layers=shapes.count("encoder.block."),
        heads=heads,
        buckets=buckets,
        **settings,
    )
