"""The official names of Infinity's parameters, and their paths in our tree."""

from collections.abc import Iterator

from mvar_jax.config import ModelConfig
from mvar_jax.config.infinity import SIZES
from mvar_jax.convert.layer_names import attention_entries, linear_entries
from mvar_jax.convert.names import IDENTITY, LINEAR, Entry
from mvar_jax.models import Trunk

CHUNKS = (8, 4, 2, 1)  # of sizes that are not official


def official_chunks(config: ModelConfig) -> int:
    """In how many chunks an official file has the blocks.

    As many as the official size has; for others the most of 8, 4, 2 or 1 that divide the depth.
    """
    own = (config.depth, config.width)
    official = (size.chunks for size in SIZES.values() if (size.depth, size.width) == own)
    return next(official, next(count for count in CHUNKS if config.depth % count == 0))


def block_name(layer: int, depth: int, chunks: int) -> str:
    """What the names of a block's parameters begin with; a single chunk is not named."""
    if chunks == 1:
        return f"blocks.{layer}"
    chunk, place = divmod(layer, depth // chunks)
    return f"block_chunks.{chunk}.module.{place}"


def infinity_entries(trunk: Trunk, chunks: int) -> list[Entry]:
    """Every parameter of a text-conditioned trunk, in the order of the official state dict.

    The official code runs the blocks in so many chunks of equal length, which name them.
    """
    config, width = trunk.config, trunk.config.width
    table = (config.text.max_length, config.text.channels)
    entries = [
        Entry("cfg_uncond", table, ("text", "null_features"), table),
        Entry("pos_start", (1, 1, width), ("start_position",), (1, width)),
        Entry("text_norm.weight", table[1:], ("text", "norm_scale"), table[1:]),
        *_pool_entries(config),
        *linear_entries("text_proj_for_ca.0", ("text", "up"), table[1:], (width,)),
        *linear_entries("text_proj_for_ca.2", ("text", "down"), (width,), (width,)),
        Entry(
            "lvl_embed.weight", (trunk.levels, width), ("level_embedding",), (trunk.levels, width)
        ),
        *linear_entries("word_embed", ("word_embedding",), (trunk.code_channels,), (width,)),
        *linear_entries("shared_ada_lin.1", ("shared_modulation",), (width,), (6, width)),
        *linear_entries("head_nm.ada_lin.1", ("head_modulation",), (width,), (2, width)),
        *linear_entries("head", ("head",), (width,), (trunk.logits,)),
    ]
    for layer in range(config.depth):
        entries += _block_entries(block_name(layer, config.depth, chunks), config, layer)
    return entries


def _pool_entries(config: ModelConfig) -> Iterator[Entry]:
    """The pooling of a text into one vector."""
    channels, path, name = config.text.channels, ("text", "pool"), "text_proj_for_sos.ca"
    shape = (config.pooling_heads, config.width // config.pooling_heads)
    yield Entry(f"{name}.mat_q", (1, *shape), (*path, "query"), shape)
    yield from _key_value_entries(name, path, channels, shape)
    yield from linear_entries(f"{name}.proj", (*path, "out"), shape, (config.width,))


def _block_entries(name: str, config: ModelConfig, layer: int) -> Iterator[Entry]:
    """A block with attention over the history, cross-attention and feed-forward."""
    width, hidden, path = config.width, config.hidden_width, ("blocks_0",)
    official, shape = (1, 1, 6, width), (6, width)
    yield Entry(f"{name}.ada_gss", official, (*path, "modulation_offset"), shape, layer=layer)
    yield from attention_entries(f"{name}.sa", (*path, "attention"), config, layer)
    yield from _cross_attention_entries(f"{name}.ca", (*path, "cross_attention"), config, layer)
    yield from linear_entries(f"{name}.ffn.fc1", (*path, "ffn", "up"), (width,), (hidden,), layer)
    yield from linear_entries(f"{name}.ffn.fc2", (*path, "ffn", "down"), (hidden,), (width,), layer)
    norm = (*path, "cross_norm")
    for last, ours in (("weight", "scale"), ("bias", "bias")):
        yield Entry(f"{name}.ca_norm.{last}", (width,), (*norm, ours), (width,), layer=layer)


def _cross_attention_entries(
    name: str, path: tuple[str, ...], config: ModelConfig, layer: int
) -> Iterator[Entry]:
    """A `CrossAttention` without its norm."""
    width, shape = config.width, (config.heads, config.head_dim)
    bias, *kernel = _key_value_entries(name, path, width, shape, layer)
    yield bias
    yield from linear_entries(f"{name}.mat_q", (*path, "query"), (width,), shape, layer)
    yield from kernel
    yield from linear_entries(f"{name}.proj", (*path, "out"), shape, (width,), layer)


def _key_value_entries(
    name: str,
    path: tuple[str, ...],
    inputs: int,
    shape: tuple[int, int],
    layer: int | None = None,
) -> Iterator[Entry]:
    """Keys without and values with a bias, by one matrix."""
    channels = shape[0] * shape[1]
    yield Entry(f"{name}.v_bias", (channels,), (*path, "value_bias"), shape, IDENTITY, layer)
    official, ours = (2 * channels, inputs), (inputs, 2, *shape)
    target = (*path, "key_value", "kernel")
    yield Entry(f"{name}.mat_kv.weight", official, target, ours, LINEAR, layer)
