"""Models that are described in the original's terms, and parameters under official names."""

from collections.abc import Iterable

import numpy as np

from mvar_jax.array_types import Params
from mvar_jax.config import ModelConfig
from mvar_jax.convert.names import Entry

PATTERNS = {"mvar": ("scale+ssm",), "var": ("history",)}


def trunk_config(about: dict) -> ModelConfig:
    """Our configuration of a trunk that is described in the original's terms."""
    return ModelConfig(
        num_classes=about["num_classes"],
        depth=about["depth"],
        width=about["embed_dim"],
        heads=about["num_heads"],
        pattern=PATTERNS[about["kind"]],
        mlp_ratio=float(about.get("mlp_ratio", 4)),
        qk_norm=about["attn_l2_norm"],
        shared_modulation=about["shared_aln"],
        norm_epsilon=float(about.get("norm_eps", 1e-6)),
    )


def official_arrays(entries: Iterable[Entry], params: Params) -> dict[str, np.ndarray]:
    """Parameters, or their gradients, under their official names and in official shapes."""
    pieces = {}
    for entry in entries:
        array = params
        for name in entry.path:
            array = array[name]
        array = np.asarray(array if entry.layer is None else array[entry.layer])
        order = entry.permutation or tuple(range(len(entry.piece_shape)))
        permuted = array.reshape([entry.piece_shape[axis] for axis in order])
        pieces.setdefault(entry.official, []).append(permuted.transpose(np.argsort(order)))
    return {name: np.concatenate(parts) for name, parts in pieces.items()}
