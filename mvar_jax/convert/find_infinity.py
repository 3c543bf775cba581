"""Finds the configuration of an Infinity from the names and shapes of its official tensors."""

from mvar_jax.checks import check
from mvar_jax.config import ModelConfig, TextConfig
from mvar_jax.config.infinity import MODEL
from mvar_jax.convert.infinity_names import block_name
from mvar_jax.convert.shapes import Shapes
from mvar_jax.models import Trunk
from mvar_jax.scales import ScaleSchedule


def find_infinity(shapes: Shapes, schedule: ScaleSchedule) -> Trunk:
    """The trunk that has tensors of these names and shapes; only the schedule is not in them.

    The unconditional text keeps as many tokens as the file has, which texts may have at most.
    Raises ValueError for a tensor that every such model has, and this one not, and for a schedule
    that does not begin with one token or has more scales than the file has levels for.
    """
    width, bits = shapes["word_embed.weight", 2]
    most, channels = shapes["cfg_uncond", 2]
    levels, _ = shapes["lvl_embed.weight", 2]
    chunks, depth = find_chunks(shapes), _depth(shapes)
    first = block_name(0, depth, chunks)
    hidden, _ = shapes[f"{first}.ffn.fc1.weight", 2]
    _, heads, _, _ = shapes[f"{first}.sa.scale_mul_1H11", 4]
    check(
        schedule.lengths[0] == 1 and len(schedule) <= levels,
        f"the scales are {schedule}, but the model begins with one token and has levels for "
        f"{levels} scales; use others (an import has --schedule).",
    )
    config = ModelConfig(
        **MODEL,
        text=TextConfig(channels, most),
        depth=depth,
        width=width,
        heads=heads,
        levels=levels,
        mlp_ratio=hidden / width,
    )
    return Trunk(config, schedule, 2 * bits, bits)


def find_chunks(shapes: Shapes) -> int:
    """How many chunks of blocks the names tell, 1 where none."""
    return shapes.count("block_chunks.") if shapes.has("block_chunks.") else 1


def _depth(shapes: Shapes) -> int:
    """How many blocks there are; ValueError unless all chunks have as many."""
    if not shapes.has("block_chunks."):
        return shapes.count("blocks.")
    chunks = range(find_chunks(shapes))
    counts = [shapes.count(f"block_chunks.{chunk}.module.") for chunk in chunks]
    check(
        len(set(counts)) == 1,
        f"its chunks have {counts} blocks, expected as many in each",
    )
    return sum(counts)
