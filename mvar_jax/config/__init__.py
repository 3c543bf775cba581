"""What can be configured: frozen dataclasses, validated where they are built.

The defaults here are the truth. Files under `configs/` set what differs, `--config.a.b=v`
overrides on the command line, and `config.tree` turns the result back into these values; library
code only ever receives dataclasses. Errors are ValueErrors of one sentence: what was
got, what was expected, how to fix it.
"""

from mvar_jax.config.adapter import AdapterConfig
from mvar_jax.config.codebook import CodebookConfig
from mvar_jax.config.data import DataConfig
from mvar_jax.config.experiment import (
    FROZEN,
    SAMPLING_PRESETS,
    Config,
    MeshConfig,
    SamplingConfig,
    sampling_preset,
)
from mvar_jax.config.infinity_schedules import (
    infinity_schedule,
    nearest_aspect,
    parse_aspect,
    position_grid,
    reshaped,
)
from mvar_jax.config.model import (
    BRANCHES,
    BlockKind,
    InitConfig,
    ModelConfig,
    SSMConfig,
    TextConfig,
)
from mvar_jax.config.tokenizer import TokenizerConfig
from mvar_jax.config.tokenizer_loss import TokenizerLossConfig
from mvar_jax.config.training import OptimizerConfig, TrainingConfig

__all__ = [
    "BRANCHES",
    "FROZEN",
    "SAMPLING_PRESETS",
    "AdapterConfig",
    "BlockKind",
    "CodebookConfig",
    "Config",
    "DataConfig",
    "InitConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SSMConfig",
    "SamplingConfig",
    "TextConfig",
    "TokenizerConfig",
    "TokenizerLossConfig",
    "TrainingConfig",
    "infinity_schedule",
    "nearest_aspect",
    "parse_aspect",
    "position_grid",
    "reshaped",
    "sampling_preset",
]
