"""The state dicts of the official models: names, shapes and dtypes, in order."""

import json

from mvar_jax.config import TokenizerConfig, infinity_schedule
from tests.infinity_reference import KEPT
from tests.reference import GOLDEN

BITWISE = json.loads((KEPT / "vae_manifests.json").read_text())
TRUNKS = json.loads((GOLDEN / "manifests.json").read_text())
T5S = json.loads((GOLDEN / "flan_t5.json").read_text())


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
