"""The state dicts of the official models: names, shapes and dtypes, in order."""

import json

from mvar_jax.config import TokenizerConfig, infinity_schedule
from mvar_jax.config.infinity import infinity
from mvar_jax.config.tree import from_config_dict
from mvar_jax.models import build_trunk
from tests.infinity_reference import KEPT
from tests.reference import GOLDEN

BITWISE = json.loads((KEPT / "vae_manifests.json").read_text())
TRUNKS = json.loads((GOLDEN / "manifests.json").read_text())
TEXT_TRUNKS = json.loads((KEPT / "trunk_manifests.json").read_text())
PRESETS = {
    "infinity_layer12": "125m",
    "infinity_layer16": "361m",
    "infinity_layer24": "940m",
    "infinity_2b": "2b",
    "infinity_layer32": "2.2b",
    "infinity_layer40": "4.7b",
    "infinity_8b": "8b",
    "infinity_layer48": "8.8b",
}
"""Of the text-conditioned ones, by their official name."""
T5S = json.loads((GOLDEN / "flan_t5.json").read_text())
NETWORKS = json.loads((GOLDEN / "networks" / "manifests.json").read_text())


def trunk_manifest(name):
    """Every tensor of an official trunk: (name, shape, dtype, whether it is a parameter)."""
    about = (TRUNKS | TEXT_TRUNKS)[name]
    items = []
    for parameter, shape in about["shapes"].items():
        items.append((parameter, tuple(shape), "float32", True))
        for buffer, (after, buffer_shape, dtype) in about["buffers"].items():
            if after == items[-1][0]:
                items.append((buffer, tuple(buffer_shape), dtype, False))
    names = block_names(about)
    first = [item for item in items if item[0].startswith(names[0])]
    start = items.index(first[0])
    blocks = [
        (block_name.replace(names[0], name), *rest) for name in names for block_name, *rest in first
    ]
    return [*items[:start], *blocks, *items[start + len(first) :]]


def block_names(about):
    """What the names of every block's tensors begin with."""
    if "chunks" not in about:
        return [f"blocks.{i}." for i in range(about["depth"])]
    length = about["depth"] // about["chunks"]
    return [
        f"block_chunks.{chunk}.module.{i}."
        for chunk in range(about["chunks"])
        for i in range(length)
    ]


def text_trunk(name):
    """Our trunk of an official text-conditioned size, for images of 1024 pixels."""
    return build_trunk(from_config_dict(infinity(PRESETS[name])))


def tokenizer_manifest():
    """The same of the official tokenizer."""
    shapes = json.loads((GOLDEN / "vae_ch160v4096z32.json").read_text())
    items = []
    for name, shape in shapes.items():
        items.append((name, tuple(shape), "float32", True))
        if name == "decoder.conv_out.bias":
            items.append(("quantize.ema_vocab_hit_SV", (10, 4096), "float32", False))
    return items


def bitwise_manifest(about):
    """The same of an official bitwise tokenizer."""
    return [
        (name, tuple(shape), dtype, kind == "parameter")
        for name, shape, dtype, kind in about["tensors"]
    ]


def bitwise_config(about):
    """Our configuration of an official bitwise tokenizer, for images of 1024 pixels."""
    arguments = about["constructor_arguments"]
    return TokenizerConfig(
        quantizer="bsq",
        image_size=(1024, 1024),
        scales=infinity_schedule("1", "1M").sizes,
        code_channels=arguments["codebook_dim"],
        patch=16 // arguments["patch_size"],
        base_channels=arguments["base_ch"],
        channel_multipliers=tuple(arguments["encoder_ch_mult"]),
        blocks_per_level=arguments["num_res_blocks"],
        attention=False,
    )


def t5_manifest(size):
    """The encoder of a Flan-T5: the shapes of all tensors by name, in order."""
    about = T5S[size]
    start = "encoder.block.0."
    first = {name: shape for name, shape in about["shapes"].items() if name.startswith(start)}
    shapes = {}
    for name, shape in about["shapes"].items():
        for layer in range(about["num_layers"]) if name == next(iter(first)) else ():
            for own, own_shape in first.items():
                if layer == 0 or "relative_attention_bias" not in own:
                    shapes[own.replace(start, f"encoder.block.{layer}.")] = tuple(own_shape)
        if name not in first:
            shapes[name] = tuple(shape)
    return shapes


def network_manifest(name):
    """The shapes of the tensors of a file of a network that images are measured by."""
    return {tensor: tuple(shape) for tensor, shape in NETWORKS[name].items()}
