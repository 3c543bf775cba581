"""The official names of a trunk's parameters, and their paths in our tree."""

from collections.abc import Mapping

import numpy as np

from mvar_jax.array_types import Params
from mvar_jax.convert.infinity_names import infinity_entries, official_chunks
from mvar_jax.convert.layer_names import block_entries, linear_entries
from mvar_jax.convert.names import Entry, read_params
from mvar_jax.models import Trunk


def trunk_params(state: Mapping[str, np.ndarray], trunk: Trunk) -> Params:
    """Parameters of a `Trunk` from an official state dict of arrays.

    Buffers that follow from the schedule are not looked at. Raises ValueError for a missing
    tensor or one of another shape than the trunk asks for.
    """
    return read_params(trunk_entries(trunk), state)


def trunk_entries(trunk: Trunk, chunks: int | None = None) -> list[Entry]:
    """Every parameter of the trunk, in the order of the official state dict.

    With cross-attention to texts it is that of Infinity, whose names tell `chunks` of blocks, by
    default as many as `official_chunks` says; otherwise it is that of VAR or M-VAR.
    """
    if trunk.config.kinds[0].text:
        return infinity_entries(trunk, chunks or official_chunks(trunk.config))
    return _class_entries(trunk)


def _class_entries(trunk: Trunk) -> list[Entry]:
    """Every parameter of a VAR or M-VAR."""
    config, schedule = trunk.config, trunk.schedule
    width, classes = config.width, config.num_classes + 1
    places, kinds = len(config.kinds), config.kinds
    first, total, scales = schedule.lengths[0], schedule.total, len(schedule)
    entries = [
        Entry("pos_start", (1, first, width), ("start_position",), (first, width)),
        Entry("pos_1LC", (1, total, width), ("position_embedding",), (total, width)),
        *linear_entries("word_embed", ("word_embedding",), (trunk.code_channels,), (width,)),
        Entry("class_emb.weight", (classes, width), ("class_embedding",), (classes, width)),
        Entry("lvl_embed.weight", (scales, width), ("level_embedding",), (scales, width)),
    ]
    if config.shared_modulation:
        groups = kinds[0].groups
        entries += linear_entries(
            "shared_ada_lin.1", ("shared_modulation",), (width,), (groups, width)
        )
    for i in range(config.depth):
        kind, path = kinds[i % places], (f"blocks_{i % places}",)
        entries += [*block_entries(f"blocks.{i}", path, kind, config, i // places)]
    entries += linear_entries("head_nm.ada_lin.1", ("head_modulation",), (width,), (2, width))
    entries += linear_entries("head", ("head",), (width,), (trunk.logits,))
    return entries
