"""The state dicts of the official models: names, shapes and dtypes, in order."""

import json

from mvar_jax.config import TokenizerConfig
from mvar_jax.scales import INFINITY_1024
from tests.infinity_reference import KEPT
from tests.reference import GOLDEN

BITWISE = json.loads((KEPT / "vae_manifests.json").read_text())
TRUNKS = json.loads((GOLDEN / "manifests.json").read_text())


def trunk_manifest(name):
    """Every tensor of an official trunk: (name, shape, dtype, whether it is a parameter)."""
    about = TRUNKS[name]
    items = []
    for parameter, shape in about["shapes"].items():
        items.append((parameter, tuple(shape), "float32", True))
        for buffer, (after, buffer_shape, dtype) in about["buffers"].items():
            if after == items[-1][0]:
                items.append((buffer, tuple(buffer_shape), dtype, False))
    first = [item for item in items if item[0].startswith("blocks.0.")]
    start = items.index(first[0])
    blocks = [
        (block_name.replace("blocks.0.", f"blocks.{i}."), *rest)
        for i in range(about["depth"])
        for block_name, *rest in first
    ]
    return [*items[:start], *blocks, *items[start + len(first) :]]


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
        scales=INFINITY_1024.sizes,
        code_channels=arguments["codebook_dim"],
        patch=16 // arguments["patch_size"],
        base_channels=arguments["base_ch"],
        channel_multipliers=tuple(arguments["encoder_ch_mult"]),
        blocks_per_level=arguments["num_res_blocks"],
        attention=False,
    )
