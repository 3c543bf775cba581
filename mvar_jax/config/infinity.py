"""The official sizes of Infinity (arXiv 2412.04431) and how they are trained, as data."""

from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from mvar_jax.checks import check
from mvar_jax.config import Config, infinity_schedule
from mvar_jax.config.infinity_schedules import BUDGETS, STRIDE
from mvar_jax.config.recipes import sharded_parameters
from mvar_jax.config.tree import to_config_dict
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class Size:
    """What differs by size. `bits` are those of a position of the latent map."""

    depth: int
    width: int
    heads: int
    chunks: int  # of blocks, in the names of official weights
    bits: int = 32
    patch: int = 1

    @property
    def token_bits(self) -> int:
        """Bits of a token, which folds `patch` x `patch` positions."""
        return self.bits * self.patch**2


SIZES = {
    "125m": Size(12, 768, 8, 4),
    "361m": Size(16, 1152, 12, 4),
    "940m": Size(24, 1536, 16, 4),
    "2b": Size(32, 2048, 16, 8),
    "2.2b": Size(32, 2080, 20, 4),
    "4.7b": Size(40, 2688, 24, 4),
    "8b": Size(40, 3584, 28, 8, bits=14, patch=2),
    "8.8b": Size(48, 3360, 28, 4),
}
"""By preset; 2b and 8b are the released models, the others those of the paper's study of sizes."""

MODEL: dict[str, Any] = {
    "condition": "text",
    "pattern": ("history+text",),
    "positions": "rotary",
    "shared_modulation": True,
}
"""The settings that trunks of all sizes share."""

SAMPLING: dict[str, Any] = {"guidance": 3.0, "guidance_ramp": False, "top_k": 0, "top_p": 0.97}
"""The settings of sampling."""


def infinity(preset: str) -> ConfigDict:
    """The config of a size, such as "2b", for images of 1M pixels, or of "2b@0.06M".

    Raises ValueError for another preset.
    """
    name, _, pixels = preset.partition("@")
    check(
        name in SIZES and (pixels or "1M") in BUDGETS,
        f"config preset: got {preset!r}, expected one of {', '.join(SIZES)}, with a budget of "
        f"pixels behind it if wanted ({', '.join(BUDGETS)}), as in "
        "--config=configs/infinity.py:2b@0.25M.",
    )
    size, schedule = SIZES[name], infinity_schedule("1", pixels or "1M")
    config = to_config_dict(Config())
    config.mesh.update(sharded_parameters(size.width))
    config.tokenizer.update(tokenizer_settings(size.token_bits, schedule))
    config.model.update(
        MODEL,
        depth=size.depth,
        width=size.width,
        heads=size.heads,
        levels=15,
        mlp_ratio=hidden_width(size.width) / size.width,
        drop_path_rate=0.1,
        compute_dtype="bfloat16",
        remat="full",
    )
    config.model.init.update(modulation=1e-3, gate=5e-6)
    _train(config)
    config.sampling.update(SAMPLING)
    return config


def tokenizer_settings(token_bits: int, schedule: ScaleSchedule) -> dict[str, Any]:
    """The settings of the tokenizer whose tokens have so many bits.

    It folds positions as that of an official size with as many bits does, otherwise none.
    """
    sizes = ((size.bits, size.patch) for size in SIZES.values() if size.token_bits == token_bits)
    bits, patch = next(sizes, (token_bits, 1))
    return {
        "quantizer": "bsq",
        "image_size": tuple(STRIDE * side for side in schedule.last),
        "scales": schedule.sizes,
        "code_channels": bits,
        "patch": patch,
        "base_channels": 128,
        "channel_multipliers": (1, 2, 4, 4, 4)[: 5 if patch == 1 else 4],
        "attention": False,
    }


def hidden_width(width: int) -> int:
    """Channels inside the feed-forward: 4 width, rounded to a multiple of 256, even on a tie."""
    return 256 * round(4 * width / 256)


def _train(config: ConfigDict) -> None:
    """The settings of the public training script."""
    config.batch_size = 256
    config.optimizer.update(
        learning_rate=6e-3,
        schedule="constant",
        warmup_fraction=0.0,
        final_fraction=1.0,
        weight_decay=0.005,
        final_weight_decay=0.005,
        beta2=0.97,
        clip_norm=5.0,
    )
    config.training.update(scale_weights="area", ema_decay=0.9999)
