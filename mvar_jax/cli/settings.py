"""The flags that say how images are drawn."""

from typing import Any

from absl import flags

from mvar_jax.cli.common import given
from mvar_jax.config import SAMPLING_PRESETS, sampling_preset


def define_settings(batch: str | None = "Images drawn at a time.") -> None:
    """Defines the flags of `SamplingConfig`, of its presets and of batches; see `get_settings`.

    `batch` says what `--batch_size` counts; there is no such flag where it is None.
    """
    flags.DEFINE_enum("preset", None, SAMPLING_PRESETS, "The official settings for a purpose.")
    flags.DEFINE_float("guidance", None, "Guidance at the last scale, 0 for none.")
    flags.DEFINE_integer("guidance_layer", None, "Guide after so many blocks, 0 at the logits.")
    flags.DEFINE_integer("top_k", None, "Draw from the k likeliest tokens, 0 for all.")
    flags.DEFINE_float("top_p", None, "Draw from the likeliest share p, 0 for all.")
    flags.DEFINE_float("temperature", None, "Divides the logits.")
    flags.DEFINE_bool("smooth", None, "Mix codes instead of drawing tokens.")
    if batch is not None:
        flags.DEFINE_integer("batch_size", None, batch, lower_bound=1)


def get_settings(vocabulary: int) -> dict[str, Any]:
    """Arguments of `Model.sample` by name, for a vocabulary of that size.

    They are those of the preset, if one is named, or what other flags say in their place.
    """
    names = ("guidance", "guidance_layer", "top_k", "top_p", "temperature", "smooth")
    optional = (name for name in ("batch_size", "negative") if name in flags.FLAGS)
    own = given(*names, *optional)
    preset = flags.FLAGS.preset
    return own if preset is None else sampling_preset(preset, vocabulary, **own)
