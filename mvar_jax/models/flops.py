"""The FLOPs of the trunk's mathematics, however the compiled program computes it."""

from mvar_jax.config import BlockKind, ModelConfig
from mvar_jax.scales import ScaleSchedule

TRAINING_FACTOR = 3
"""FLOPs of a training step / those of a forward pass: backward takes two matmuls for every one."""


def matmul_flops(config: ModelConfig, schedule: ScaleSchedule, logits: int) -> int:
    """FLOPs of the trunk's matmuls in one teacher-forced forward pass of one image.

    A matmul of [a, b] and [b, c] counts 2abc. Counted are the projections of attention,
    state-space layers and feed-forwards, the matmuls of queries, keys and values within the
    reach of each kind of block, cross-attention to a text of the most tokens, adaLN, and the
    head. The state-space recurrence counts as `h = decay h + x b^T; y = h c` token by token, not
    as the chunked form that the program computes. Not counted are elementwise arithmetic,
    convolutions, the embedding of words and texts, and recomputation.
    """
    width, tokens = config.width, schedule.total
    blocks = sum(_block(config, kind, schedule) for kind in config.kinds)
    groups = 2  # of the head
    if config.shared_modulation:
        groups += config.kinds[0].groups
    else:
        groups += config.repeats * sum(kind.groups for kind in config.kinds)
    head = 2 * tokens * width * logits
    return config.repeats * blocks + 2 * width * width * groups + head


def _block(config: ModelConfig, kind: BlockKind, schedule: ScaleSchedule) -> int:
    """FLOPs of one block, without its modulation."""
    width, hidden = config.width, config.hidden_width
    weights = 4 * width * width + 2 * width * hidden  # qkv and out; up and down
    mixing = 4 * width * _pairs(kind, schedule)  # query-key and weights-value matmuls
    if kind.ssm:
        inner, state = config.ssm_width, config.ssm.state_size
        weights += width * (2 * inner + 2 * state + config.ssm_heads) + inner * width
        mixing += 4 * schedule.total * inner * state  # writing and reading the state
    if kind.text:
        text = config.text.max_length
        weights += 2 * width * width  # queries and out
        mixing += 4 * text * width * width + 4 * width * schedule.total * text  # keys, values
    return 2 * schedule.total * weights + mixing


def _pairs(kind: BlockKind, schedule: ScaleSchedule) -> int:
    """Pairs of a query and a key that it attends to."""
    own = kind.attention_reach == "scale"
    seen = schedule.lengths if own else [part.stop for part in schedule.slices]
    return sum(queries * keys for queries, keys in zip(schedule.lengths, seen))
