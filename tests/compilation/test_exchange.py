"""What chips exchange, from the texts of programs."""

import numpy as np
import pytest

from mvar_jax.compilation.exchange import (
    bytes_beside_arithmetic,
    bytes_between_hosts,
    exchanged_bytes,
    replica_groups,
)

EXCHANGES = """
%fused (p: bf16[4,8]) -> bf16[4,128] {
  %p = bf16[4,8]{1,0} parameter(0)
  %all-gather.1 = bf16[4,128]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=1, dimensions={1}
}

ENTRY %main () -> f32[8] {
  %a = bf16[4,8]{1,0} parameter(0)
  %all-gather.2 = bf16[4,128]{1,0:T(8,128)(2,1)} all-gather(%a), channel_id=1, dimensions={1}
  %b = f32[16]{0} parameter(1)
  %start = (f32[16]{0}, f32[4]{0}) reduce-scatter-start(%b), channel_id=2, dimensions={0}
  %done = f32[4]{0} reduce-scatter-done(%start)
  %c = f32[8]{0} parameter(2)
  %both = (f32[8]{0}, /*index=1*/f32[16]{0}) all-reduce(%c, %b), channel_id=3
  ROOT %r = f32[8]{0} get-tuple-element(%both), index=0
}
"""

# As the compiler for TPUs writes the sum of a gradient whose pieces are kept by 4 chips.
SCATTERED = """
%all-reduce-scatter.1 (input: bf16[16,8]) -> bf16[4,8] {
  %input = bf16[16,8]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.2 = bf16[16,8]{1,0:T(8,128)(2,1)} all-reduce(%input), channel_id=2, to_apply=%add
  %constant.1 = u32[] constant(0)
  ROOT %slice.5 = bf16[4,8]{1,0:T(8,128)} dynamic-slice(%all-reduce.2, %constant.1, %constant.1)
}

ENTRY %main () -> bf16[4,8] {
  %a = bf16[16,8]{1,0} parameter(0)
  %fusion.1 = bf16[4,8]{1,0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %all-reduce.3 = bf16[4,8]{1,0} all-reduce(%fusion.1), channel_id=3, to_apply=%add
}
"""
# A gather in two steps, of which the second is a fusion with arithmetic, and one by itself.
OVERLAPPED = """
%fused_computation.1 (p: bf16[4,8]) -> bf16[16,8] {
  %p = bf16[4,8]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[16,8]{1,0} all-gather(%p), channel_id=1, dimensions={0}
}

%async_collective_fusion.2 (q: bf16[4,8]) -> bf16[16,8] {
  %q = bf16[4,8]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[16,8]{1,0} all-gather(%q), channel_id=1, dimensions={0}
}

ENTRY %main () -> bf16[32,8] {
  %a = bf16[4,8]{1,0} parameter(0)
  %start = bf16[16,8]{1,0} fusion(%a), kind=kCustom, calls=%fused_computation.1
  %end = bf16[16,8]{1,0} fusion(%a), kind=kOutput, calls=%async_collective_fusion.2
  %b = bf16[8,8]{1,0} parameter(1)
  ROOT %all-gather.3 = bf16[32,8]{1,0} all-gather(%b), channel_id=2, dimensions={0}
}
"""

# Two hosts of four GPUs. Each row of the table is one collective of 64 bytes.
HOSTS = [0, 0, 0, 0, 1, 1, 1, 1]
COLLECTIVE = """
ENTRY %main (a: f32[16]) -> f32[16] {
  %a = f32[16]{0} parameter(0)
  ROOT %r = f32[16]{0} KIND(%a), channel_id=1, GROUPS, use_global_device_ids=true
}
"""


def test_a_collective_counts_once_by_the_larger_of_input_and_output():
    assert exchanged_bytes(EXCHANGES) == {
        "all-gather": 4 * 128 * 2,
        "reduce-scatter": 16 * 4,
        "all-reduce": 2 * (8 + 16) * 4,
    }


def test_an_all_reduce_of_which_a_piece_is_kept_is_a_reduce_scatter():
    expected = {"reduce-scatter": 16 * 8 * 2, "all-reduce": 2 * 4 * 8 * 2}
    assert exchanged_bytes(SCATTERED) == expected


def test_collectives_in_steps_of_fusions_are_beside_arithmetic():
    assert exchanged_bytes(OVERLAPPED) == {"all-gather": (16 + 32) * 8 * 2}
    assert bytes_beside_arithmetic(OVERLAPPED) == 16 * 8 * 2
    assert bytes_beside_arithmetic(EXCHANGES) == 0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("replica_groups={{0,1},{2,3}}, dimensions={0}", [[0, 1], [2, 3]]),
        ("source_target_pairs={{0,1},{1,2}}", [[0, 1], [1, 2]]),
        ("replica_groups={}, to_apply=%add", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("replica_groups=[2,4]<=[8], dimensions={0}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("replica_groups=mesh['a'=8,'b'=1] {'a'}, to_apply=%add", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("replica_groups=mesh['a'=2,'b'=4] {'a'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        (
            "replica_groups=mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'c'}",
            [[0, 4], [1, 5], [2, 6], [3, 7]],
        ),
        ("replica_groups=mesh['a'=8] {'a':(1)2}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("replica_groups=mesh['a'=8] {'a':(2)4}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ],
)
def test_groups_of_chips_are_read(written, expected):
    np.testing.assert_array_equal(replica_groups(written, 8), expected)


def test_groups_that_are_written_otherwise_are_refused():
    with pytest.raises(ValueError, match="expected the groups of its chips"):
        replica_groups("replica_groups=new{1}", 8)


@pytest.mark.parametrize(
    ("kind", "groups", "expected"),
    [
        ("all-reduce", "replica_groups={}", 2 * 64 / 4),  # four adapters share it
        ("all-gather", "replica_groups=[4,2]<=[2,4]T(1,0)", 64),  # one chip of each host
        ("all-gather", "replica_groups=[2,4]<=[8]", 0),  # inside of a host
        ("all-to-all", "replica_groups={}", 64),  # everyone's own
        ("collective-permute", "source_target_pairs={{3,4},{0,1}}", 64),
    ],
)
def test_chips_of_a_host_share_what_other_hosts_send(kind, groups, expected):
    text = COLLECTIVE.replace("KIND", kind).replace("GROUPS", groups)
    assert bytes_between_hosts(text, HOSTS) == expected
    assert bytes_between_hosts(text, [0] * 8) == 0
