"""Models of the reference files, with the weights that those were computed with."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mvar_jax.config import ModelConfig, TokenizerConfig
from mvar_jax.convert.names import Entry
from mvar_jax.convert.tokenizer_names import tokenizer_entries, tokenizer_params
from mvar_jax.convert.trunk_names import trunk_entries, trunk_params
from mvar_jax.models import Trunk
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers import VQTokenizer
from mvar_jax.typing import Params
from tests.reference import Golden, load_golden, recipe_weights

PATTERNS = {"mvar": ("scale+ssm",), "var": ("history",)}


class Reference(NamedTuple):
    """A reference file and the model that it describes."""

    golden: Golden
    trunk: Trunk
    tokenizer: VQTokenizer
    params: dict[str, Params]


def trunk_config(about: dict) -> ModelConfig:
    """Our configuration of a trunk that is described in the original's terms."""
    return ModelConfig(
        num_classes=about["num_classes"],
        depth=about["depth"],
        width=about["embed_dim"],
        heads=about["num_heads"],
        pattern=PATTERNS[about["kind"]],
        qk_norm=about["attn_l2_norm"],
        shared_modulation=about["shared_aln"],
    )


def load_reference(name: str, **changes) -> Reference:
    """The model of a reference file; `changes` go to the trunk's configuration."""
    golden = load_golden(name)
    about, vae = golden.config, golden.config["vae_config"]
    tokenizer_config = TokenizerConfig(
        image_size=(vae["px"], vae["px"]),
        scales=ScaleSchedule.squares(*vae["pn"]).sizes,
        vocabulary=vae["V"],
        code_channels=vae["z"],
        base_channels=vae["ch"],
    )
    config = ModelConfig(**{**vars(trunk_config(about)), **changes})
    trunk = Trunk(config, tokenizer_config.schedule, vae["V"], vae["z"])
    params = {
        "trunk": trunk_params(_weights(trunk_entries(trunk)), trunk),
        "tokenizer": tokenizer_params(
            _weights(tokenizer_entries(tokenizer_config)), tokenizer_config
        ),
    }
    return Reference(golden, trunk, VQTokenizer(tokenizer_config), params)


def _weights(entries):
    return recipe_weights({entry.official: entry.official_shape for entry in entries})


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
