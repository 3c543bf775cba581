"""Finds the configuration of a tokenizer from the names and shapes of its official tensors."""

import math
from collections.abc import Mapping
from typing import Any

from mvar_jax.checks import check
from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.shapes import Shapes
from mvar_jax.scales import ScaleSchedule

QUANTIZER = "quantize.quant_resi"
BSQ_PATCH = {8: 2}  # positions that a token of the official models folds, by stride; else 1


def find_tokenizer(shapes: Shapes, schedule: ScaleSchedule) -> TokenizerConfig:
    """The tokenizer that has tensors of these names and shapes; only the schedule is not in them.

    Raises ValueError for a tensor that every such model has, and this one not, and for a
    schedule of another number of scales than the file's.
    """
    if tokenizer_architecture(shapes) == "bsqvae":
        return _find_bsq(shapes, schedule)
    _check_scales(shapes, schedule)
    vocabulary, code = shapes["quantize.embedding.weight", 2]
    return TokenizerConfig(
        **_autoencoder(shapes, schedule, "weight"),
        vocabulary=vocabulary,
        code_channels=code,
        attention="encoder.mid.attn_1.qkv.weight" in shapes,
        shared_convolutions=_shared_convolutions(shapes),
    )


def tokenizer_architecture(names: Shapes | Mapping[str, Any]) -> str:
    """The official architecture, "vqvae" or "bsqvae", from names as in `tokenizer_entries`."""
    return "bsqvae" if "encoder.conv_in.conv.weight" in names else "vqvae"


def _find_bsq(shapes: Shapes, schedule: ScaleSchedule) -> TokenizerConfig:
    code, *_ = shapes["encoder.conv_out.conv.weight", 4]
    values = _autoencoder(shapes, schedule, "conv.weight")
    stride = values["stem_stride"] * 2 ** (len(values["channel_multipliers"]) - 1)
    patch = BSQ_PATCH.get(stride, 1)
    height, width = values["image_size"]
    values |= {"image_size": (patch * height, patch * width), "patch": patch}
    return TokenizerConfig(quantizer="bsq", code_channels=code, attention=False, **values)


def _autoencoder(shapes: Shapes, schedule: ScaleSchedule, end: str) -> dict[str, Any]:
    """The settings of encoder and decoder; `end` is how names of kernels end."""
    base, *_ = shapes[f"encoder.conv_in.{end}", 4]
    pixels, *_ = shapes[f"decoder.conv_out.{end}", 4]
    levels = shapes.count("encoder.down.")
    widths = [shapes[f"encoder.down.{i}.block.0.conv1.{end}", 4][0] for i in range(levels)]
    check(
        all(width % base == 0 for width in widths),
        f"the levels of its encoder have {widths} channels, expected multiples of {base}",
    )
    stem = math.isqrt(pixels // 3)
    side = stem * 2 ** (levels - 1)
    return {
        "image_size": tuple(side * extent for extent in schedule.last),
        "scales": schedule.sizes,
        "base_channels": base,
        "channel_multipliers": tuple(width // base for width in widths),
        "blocks_per_level": shapes.count("encoder.down.0.block."),
        "stem_stride": stem,
    }


def _shared_convolutions(shapes: Shapes) -> int:
    """How many residual convolutions the scales share; 0 where each has its own."""
    if f"{QUANTIZER}.qresi.weight" in shapes:
        return 1
    if f"{QUANTIZER}.qresi_ls.0.weight" in shapes:
        return shapes.count(f"{QUANTIZER}.qresi_ls.")
    return 0


def _check_scales(shapes: Shapes, schedule: ScaleSchedule) -> None:
    counts = {}
    if _shared_convolutions(shapes) == 0:
        counts[QUANTIZER] = shapes.count(f"{QUANTIZER}.")
    if "quantize.ema_vocab_hit_SV" in shapes:
        counts["quantize.ema_vocab_hit_SV"], _ = shapes["quantize.ema_vocab_hit_SV", 2]
    for name, count in counts.items():
        check(
            count == len(schedule),
            f"{name} is made for {count} scales, but the schedule has {len(schedule)}; give "
            "the right one by --schedule",
        )
