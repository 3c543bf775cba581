"""Names and shapes of the tensors of a T5 v1.1 encoder, and the arrays they become here."""

from collections.abc import Iterator

from mvar_jax.convert.names import LINEAR, Entry
from mvar_jax.text import T5Config

EMBEDDING = "shared.weight"
ALIAS = "encoder.embed_tokens.weight"  # of the embedding, under which some files hold it
NOT_NEEDED = ("decoder.", "lm_head.")  # of a file that holds the whole model
ATTENTION, FEED_FORWARD = "layer.0", "layer.1"
POSITION_BIAS = f"encoder.block.0.{ATTENTION}.SelfAttention.relative_attention_bias.weight"


def t5_entries(config: T5Config) -> Iterator[Entry]:
    """The entries of all tensors, in the official order."""
    width = config.width
    embedding, table = (config.vocabulary, width), (config.buckets, config.heads)
    yield Entry(EMBEDDING, embedding, ("token_embedding",), embedding)
    for layer in range(config.layers):
        yield from _attention_entries(config, layer)
        if layer == 0:
            yield Entry(POSITION_BIAS, table, ("position_bias",), table)
        yield _norm_entry(config, layer, ATTENTION, "attention_norm")
        yield from _feed_forward_entries(config, layer)
        yield _norm_entry(config, layer, FEED_FORWARD, "ffn_norm")
    yield Entry("encoder.final_layer_norm.weight", (width,), ("final_norm", "scale"), (width,))


def _attention_entries(config, layer):
    width, heads = config.width, (config.heads, config.head_dim)
    inner = config.heads * config.head_dim
    name, path = f"encoder.block.{layer}.{ATTENTION}.SelfAttention", ("layers", "attention")
    for letter, own in (("q", "query"), ("k", "key"), ("v", "value")):
        shape = (width, *heads)
        yield Entry(f"{name}.{letter}.weight", (inner, width), (*path, own), shape, LINEAR, layer)
    yield Entry(f"{name}.o.weight", (width, inner), (*path, "out"), (*heads, width), LINEAR, layer)


def _feed_forward_entries(config, layer):
    width, hidden = config.width, config.hidden
    name, path = f"encoder.block.{layer}.{FEED_FORWARD}.DenseReluDense", ("layers", "ffn")
    for official, own, outputs, inputs in (
        ("wi_0", "gate", hidden, width),
        ("wi_1", "up", hidden, width),
        ("wo", "down", width, hidden),
    ):
        shapes = (outputs, inputs), (*path, own), (inputs, outputs)
        yield Entry(f"{name}.{official}.weight", *shapes, LINEAR, layer)


def _norm_entry(config, layer, part, own):
    name, shape = f"encoder.block.{layer}.{part}.layer_norm.weight", (config.width,)
    return Entry(name, shape, ("layers", own, "scale"), shape, layer=layer)
