"""Which keys the attention kernel reads."""

from mvar_jax.ops.kernels import scale_attention as kernel
from mvar_jax.ops.kernels.joined_scales import Static


def test_a_block_reads_only_keys_that_it_may_see():
    static = Static(((0, 1), (1, 150), (150, 300)), 2, 64, 1.0, "scale", False)
    blocks = kernel._blocks(static)
    assert [block.queries for block in blocks] == [(0, 128), (128, 256), (256, 300)]
    assert [block.seen for block in blocks] == [(0, 256), (0, 300), (128, 300)]
