"""The official names of the tokenizers' parameters, and their paths in our tree."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from mvar_jax.array_types import Params
from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.names import CONV2D, Entry, read_params

IMAGE_CHANNELS = 3
NORMS = ("norm", "norm1", "norm2", "norm_out")  # their modules; the others are convolutions
Value = TypeVar("Value")


def tokenizer_params(state: Mapping[str, np.ndarray], config: TokenizerConfig) -> Params:
    """Parameters of a tokenizer from an official state dict of arrays.

    Buffers and other tensors that the tokenizer does not have are not looked at. Raises
    ValueError for a missing tensor or one of another shape than the config asks for.
    """
    return read_params(tokenizer_entries(config), state)


def tokenizer_entries(config: TokenizerConfig) -> list[Entry]:
    """Every parameter of the tokenizer, in the order of the official state dict."""
    if config.quantizer == "bsq":
        return [
            replace(entry, official=_wrapped(entry.official))
            for entry in (*_encoder(config), *_decoder(config))
        ]
    code = config.code_channels
    codebook = (config.vocabulary, code)
    return [
        *_encoder(config),
        *_decoder(config),
        *_residual_convolutions(config),
        Entry("quantize.embedding.weight", codebook, ("quantizer", "codebook"), codebook),
        *conv_entries("quant_conv", ("encoder_projection",), code, code),
        *conv_entries("post_quant_conv", ("decoder_projection",), code, code),
    ]


def with_wrappers(state: Mapping[str, Value]) -> dict[str, Value]:
    """The state dict of a bitwise tokenizer under the names of `tokenizer_entries`.

    Some files leave the modules that wrap norms and convolutions out of the names.
    """
    if "encoder.conv_in.conv.weight" in state:
        return dict(state)
    parts = ("encoder.", "decoder.")
    return {_wrapped(name) if name.startswith(parts) else name: x for name, x in state.items()}


def _wrapped(name: str) -> str:
    """A parameter's name in the bitwise autoencoder, from that in the VQ autoencoder."""
    module, _, kind = name.rpartition(".")
    inner = "norm" if module.rpartition(".")[2] in NORMS else "conv"
    return f"{module}.{inner}.{kind}"


def _encoder(config: TokenizerConfig) -> Iterator[Entry]:
    name, path, stem = "encoder", ("encoder",), config.stem_stride
    window = 3 if stem == 1 else stem
    base, widths = config.base_channels, _widths(config)
    yield from conv_entries(f"{name}.conv_in", (*path, "conv_in"), IMAGE_CHANNELS, base, window)
    for i, (before, width) in enumerate(zip((base, *widths), widths)):
        blocks = config.blocks_per_level
        yield from _level(f"{name}.down.{i}", path, i, (before, width), blocks, config)
        if i + 1 < len(widths):
            official = f"{name}.down.{i}.downsample.conv"
            yield from conv_entries(official, (*path, f"downsample_{i}", "conv"), width, width)
    yield from _middle(name, path, widths[-1], config.attention)
    yield from _norm(f"{name}.norm_out", (*path, "norm_out"), widths[-1])
    yield from conv_entries(
        f"{name}.conv_out", (*path, "conv_out"), widths[-1], config.code_channels
    )


def _decoder(config: TokenizerConfig) -> Iterator[Entry]:
    name, path, widths = "decoder", ("decoder",), _widths(config)
    yield from conv_entries(f"{name}.conv_in", (*path, "conv_in"), config.code_channels, widths[-1])
    yield from _middle(name, path, widths[-1], config.attention)
    for i, (width, before) in enumerate(zip(widths, (*widths[1:], widths[-1]))):
        blocks = config.blocks_per_level + 1
        yield from _level(f"{name}.up.{i}", path, i, (before, width), blocks, config)
        if i > 0:
            official = f"{name}.up.{i}.upsample.conv"
            yield from conv_entries(official, (*path, f"upsample_{i}", "conv"), width, width)
    yield from _norm(f"{name}.norm_out", (*path, "norm_out"), widths[0])
    pixels = IMAGE_CHANNELS * config.stem_stride**2
    yield from conv_entries(f"{name}.conv_out", (*path, "conv_out"), widths[0], pixels)


def _residual_convolutions(config: TokenizerConfig) -> Iterator[Entry]:
    code, count = config.code_channels, config.shared_convolutions
    if count == 1:
        names = ["quantize.quant_resi.qresi"]
    elif count > 1:
        names = [f"quantize.quant_resi.qresi_ls.{i}" for i in range(count)]
    else:
        names = [f"quantize.quant_resi.{i}" for i in range(len(config.schedule))]
    for i, name in enumerate(names):
        yield from conv_entries(name, ("quantizer", f"residual_{i}"), code, code)


def _level(
    name: str,
    path: tuple[str, ...],
    level: int,
    widths: tuple[int, int],
    blocks: int,
    config: TokenizerConfig,
) -> Iterator[Entry]:
    before, width = widths
    path = (*path, f"level_{level}")
    for i in range(blocks):
        incoming = width if i else before
        yield from block_entries(f"{name}.block.{i}", (*path, f"block_{i}"), incoming, width)
    if config.attention and level + 1 == len(config.channel_multipliers):
        for i in range(blocks):
            yield from attention_entries(f"{name}.attn.{i}", (*path, f"attention_{i}"), width)


def _middle(name: str, path: tuple[str, ...], width: int, attention: bool) -> Iterator[Entry]:
    path = (*path, "middle")
    yield from block_entries(f"{name}.mid.block_1", (*path, "block_0"), width, width)
    if attention:
        yield from attention_entries(f"{name}.mid.attn_1", (*path, "attention"), width)
    yield from block_entries(f"{name}.mid.block_2", (*path, "block_1"), width, width)


def block_entries(name: str, path: tuple[str, ...], before: int, width: int) -> Iterator[Entry]:
    """A `ResidualBlock`; the official one calls its shortcut nin_shortcut."""
    yield from _norm(f"{name}.norm1", (*path, "norm_1"), before)
    yield from conv_entries(f"{name}.conv1", (*path, "conv_1"), before, width)
    yield from _norm(f"{name}.norm2", (*path, "norm_2"), width)
    yield from conv_entries(f"{name}.conv2", (*path, "conv_2"), width, width)
    if before != width:
        yield from _pointwise(f"{name}.nin_shortcut", (*path, "shortcut"), before, width)


def attention_entries(name: str, path: tuple[str, ...], width: int) -> Iterator[Entry]:
    """A `SpatialAttention`."""
    yield from _norm(f"{name}.norm", (*path, "norm"), width)
    yield from _pointwise(f"{name}.qkv", (*path, "qkv"), width, 3 * width)
    yield from _pointwise(f"{name}.proj_out", (*path, "projection"), width, width)


def conv_entries(
    name: str, path: tuple[str, ...], before: int, width: int, window: int = 3
) -> Iterator[Entry]:
    """A convolution with a square window."""
    official, ours = (width, before, window, window), (window, window, before, width)
    yield Entry(f"{name}.weight", official, (*path, "kernel"), ours, CONV2D)
    yield Entry(f"{name}.bias", (width,), (*path, "bias"), (width,))


def _pointwise(name: str, path: tuple[str, ...], before: int, width: int) -> Iterator[Entry]:
    """A 1x1 convolution there, a dense layer here."""
    official, ours = (width, before, 1, 1), (before, width)
    yield Entry(f"{name}.weight", official, (*path, "kernel"), ours, CONV2D)
    yield Entry(f"{name}.bias", (width,), (*path, "bias"), (width,))


def _norm(name: str, path: tuple[str, ...], width: int) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", (width,), (*path, "scale"), (width,))
    yield Entry(f"{name}.bias", (width,), (*path, "bias"), (width,))


def _widths(config: TokenizerConfig) -> tuple[int, ...]:
    return tuple(config.base_channels * multiplier for multiplier in config.channel_multipliers)
