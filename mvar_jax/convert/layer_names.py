"""The official names of a block's parameters and its layers', and their paths in our tree."""

from collections.abc import Iterator

import numpy as np

from mvar_jax.config import BlockKind, ModelConfig
from mvar_jax.convert.names import CONV1D, LINEAR, Entry


def block_entries(
    name: str,
    path: tuple[str, ...],
    kind: BlockKind,
    config: ModelConfig,
    layer: int | None = None,
) -> Iterator[Entry]:
    """A `Block`."""
    width, groups = config.width, kind.groups
    if config.shared_modulation:
        official, shape = (1, 1, groups, width), (groups, width)
        yield Entry(f"{name}.ada_gss", official, (*path, "modulation_offset"), shape, layer=layer)
    yield from attention_entries(f"{name}.attn", (*path, "attention"), config, layer)
    if kind.ssm:
        yield from state_space_entries(f"{name}.mamba", (*path, "ssm"), config, layer)
    hidden = config.hidden_width
    yield from linear_entries(f"{name}.ffn.fc1", (*path, "ffn", "up"), (width,), (hidden,), layer)
    yield from linear_entries(f"{name}.ffn.fc2", (*path, "ffn", "down"), (hidden,), (width,), layer)
    if not config.shared_modulation:
        target = (*path, "modulation")
        yield from linear_entries(f"{name}.ada_lin.1", target, (width,), (groups, width), layer)


def attention_entries(
    name: str, path: tuple[str, ...], config: ModelConfig, layer: int | None = None
) -> Iterator[Entry]:
    """A `SelfAttention`."""
    width, heads = config.width, (config.heads, config.head_dim)
    if config.qk_norm:
        official, shape = (1, config.heads, 1, 1), (config.heads,)
        yield Entry(f"{name}.scale_mul_1H11", official, (*path, "query_scale"), shape, layer=layer)
    for last, ours in (("q_bias", "query_bias"), ("v_bias", "value_bias")):
        yield Entry(f"{name}.{last}", (width,), (*path, ours), heads, layer=layer)
    yield Entry(
        f"{name}.mat_qkv.weight",
        (3 * width, width),
        (*path, "qkv"),
        (width, 3, *heads),
        LINEAR,
        layer,
    )
    yield from linear_entries(f"{name}.proj", (*path, "out"), heads, (width,), layer)


def state_space_entries(
    name: str, path: tuple[str, ...], config: ModelConfig, layer: int | None = None
) -> Iterator[Entry]:
    """A `StateSpace`."""
    ssm, width = config.ssm, config.width
    inner, state = config.ssm_width, ssm.state_size
    heads = (config.ssm_heads, ssm.head_dim)
    for last in ("dt_bias", "A_log", "D"):
        yield Entry(f"{name}.{last}", heads[:1], (*path, last), heads[:1], layer=layer)

    def rows(official, row_shape, targets, permutation):
        first, total = 0, sum(count for count, *_ in targets)
        for count, target, shape in targets:
            piece = None if len(targets) == 1 else (first, first + count)
            yield Entry(
                official, (total, *row_shape), (*path, *target), shape, permutation, layer, piece
            )
            first += count

    yield from rows(
        f"{name}.in_proj.weight",
        (width,),
        [
            (2 * inner, ("in_zx", "kernel"), (width, 2, *heads)),
            (2 * state, ("in_bc", "kernel"), (width, 2, state)),
            (heads[0], ("in_dt", "kernel"), (width, heads[0])),
        ],
        LINEAR,
    )
    for last, row_shape, lead, permutation in (
        ("weight", (1, ssm.conv_size), (ssm.conv_size,), CONV1D),
        ("bias", (), (), ()),
    ):
        ours = {"weight": "kernel"}.get(last, last)
        targets = [
            (inner, ("conv_x", ours), (*lead, *heads)),
            (2 * state, ("conv_bc", ours), (*lead, 2, state)),
        ]
        yield from rows(f"{name}.conv1d.{last}", row_shape, targets, permutation)
    yield Entry(f"{name}.norm.weight", (inner,), (*path, "norm_scale"), heads, layer=layer)
    yield Entry(
        f"{name}.out_proj.weight",
        (width, inner),
        (*path, "out", "kernel"),
        (*heads, width),
        LINEAR,
        layer,
    )


def linear_entries(
    name: str,
    path: tuple[str, ...],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    layer: int | None = None,
) -> Iterator[Entry]:
    """A linear layer; ours may have several input and output axes."""
    official = (int(np.prod(outputs)), int(np.prod(inputs)))
    shape = (*inputs, *outputs)
    yield Entry(f"{name}.weight", official, (*path, "kernel"), shape, LINEAR, layer)
    yield Entry(f"{name}.bias", official[:1], (*path, "bias"), outputs, layer=layer)
