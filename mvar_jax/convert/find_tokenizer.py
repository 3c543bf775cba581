"""Finds the configuration of a VQVAE from the names and shapes of its official tensors."""

import math

from mvar_jax.checks import check
from mvar_jax.config import TokenizerConfig
from mvar_jax.convert.shapes import Shapes
from mvar_jax.scales import ScaleSchedule

QUANTIZER = "quantize.quant_resi"


def find_tokenizer(shapes: Shapes, schedule: ScaleSchedule) -> TokenizerConfig:
    """The tokenizer that has tensors of these names and shapes; only the schedule is not in them.

    Raises ValueError for a tensor that every such model has, and this one not, and for a
    schedule of another number of scales than the file's.
    """
    _check_scales(shapes, schedule)
    base, *_ = shapes["encoder.conv_in.weight", 4]
    vocabulary, code = shapes["quantize.embedding.weight", 2]
    pixels, *_ = shapes["decoder.conv_out.weight", 4]
    levels = shapes.count("encoder.down.")
    widths = [shapes[f"encoder.down.{i}.block.0.conv1.weight", 4][0] for i in range(levels)]
    check(
        all(width % base == 0 for width in widths),
        f"the levels of its encoder have {widths} channels, expected multiples of {base}",
    )
    stem = math.isqrt(pixels // 3)
    side = stem * 2 ** (levels - 1)
    return TokenizerConfig(
        image_size=tuple(side * extent for extent in schedule.last),
        scales=schedule.sizes,
        vocabulary=vocabulary,
        code_channels=code,
        base_channels=base,
        channel_multipliers=tuple(width // base for width in widths),
        blocks_per_level=shapes.count("encoder.down.0.block."),
        stem_stride=stem,
        attention="encoder.mid.attn_1.qkv.weight" in shapes,
        shared_convolutions=_shared_convolutions(shapes),
    )


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
