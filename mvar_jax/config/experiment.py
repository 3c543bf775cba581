"""One experiment: everything that can be configured."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from absl import logging

from mvar_jax.checks import LARGEST, check, check_range, check_seed
from mvar_jax.config.adapter import AdapterConfig
from mvar_jax.config.codebook import CodebookConfig
from mvar_jax.config.data import DataConfig
from mvar_jax.config.infinity_schedules import reshaped
from mvar_jax.config.model import ModelConfig
from mvar_jax.config.tokenizer import TokenizerConfig
from mvar_jax.config.tokenizer_loss import TokenizerLossConfig
from mvar_jax.config.training import OptimizerConfig, TrainingConfig
from mvar_jax.scales import ScaleSchedule


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults of sampling (VAR, `autoregressive_infer_cfg`).

    logits = (1 + t) conditional - t unconditional, where t is `guidance`; with `guidance_ramp` it
    grows linearly from 0 at the first scale to its full value at the last. `guidance_layer` k
    guides the tokens after the first k blocks in place of the logits. `top_k` 0 and `top_p` 0 or 1
    filter nothing.
    `smooth` mixes codes by a Gumbel softmax instead of drawing tokens, for pictures only.
    """

    guidance: float = 1.5
    top_k: int = 900
    top_p: float = 0.96
    temperature: float = 1.0
    smooth: bool = False
    guidance_ramp: bool = True
    guidance_layer: int = 0

    def __post_init__(self):
        check_range("sampling.guidance", self.guidance, 0.0, 1000.0)
        check(
            self.guidance_layer >= 0,
            f"sampling.guidance_layer: got {self.guidance_layer}, expected 0 (the logits) or more.",
        )
        check(self.top_k >= 0, f"sampling.top_k: got {self.top_k}, expected 0 (off) or more.")
        check_range("sampling.top_p", self.top_p, 0.0, 1.0)
        check(
            self.temperature > 0,
            f"sampling.temperature: got {self.temperature}, expected more than 0.",
        )


SAMPLING_PRESETS = {
    "fid": {"guidance": 1.5, "top_k": 900, "top_p": 0.96},  # near the data's distribution
    "picture": {"guidance": 4.0, "top_k": 900, "top_p": 0.95},  # for looking at
}
"""The official settings of sampling, by purpose; see `sampling_preset`."""


def sampling_preset(name: str, vocabulary: int, **own: Any) -> dict[str, Any]:
    """The settings of a preset, but those of `own` as they are.

    The preset's top-k is at most the vocabulary, which a warning then names. Raises ValueError for
    an unknown name.
    """
    known = ", ".join(SAMPLING_PRESETS)
    check(name in SAMPLING_PRESETS, f"preset: got {name!r}, expected one of {known}.")
    settings = SAMPLING_PRESETS[name] | own
    if "top_k" not in own and settings["top_k"] > vocabulary:
        logging.warning(
            "preset %s: top_k is %d, the whole vocabulary, in place of %d.",
            *(name, vocabulary, settings["top_k"]),
        )
        settings = settings | {"top_k": vocabulary}
    return settings


@dataclass(frozen=True)
class MeshConfig:
    """The arrangement of devices (docs/sharding.md); -1, on one axis, takes all remaining devices.

    Images are split over `data` and `fsdp`, parameters over `fsdp` (gathered layer by layer) and
    `tensor` (heads and hidden channels). The product of the axes is the number of devices.

    Both `data` and `fsdp` may be -1: then `fsdp` is the greatest common divisor of `max_fsdp` and
    the remaining devices of one slice or node, and `data` takes the rest. It stops at 128 chips:
    beyond, TPUs sum gradients by all-reduces, of which each chip keeps a piece.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    max_fsdp: int = 128

    def __post_init__(self):
        sizes = {name: getattr(self, name) for name in ("data", "fsdp", "tensor")}
        for name, size in sizes.items():
            check(
                size >= 1 or size == -1,
                f"mesh.{name}: got {size}, expected at least 1, or -1 for all remaining devices.",
            )
        rest = [name for name, size in sizes.items() if size == -1]
        check(
            len(rest) <= 1 or rest == ["data", "fsdp"],
            f"mesh: got -1 for {' and '.join(rest)}, expected it once, or for data and fsdp.",
        )
        check(self.max_fsdp >= 1, f"mesh.max_fsdp: got {self.max_fsdp}, expected at least 1.")


# The beginnings of the names of parameters, by what is frozen of a tokenizer.
FROZEN: dict[str, tuple[str, ...]] = {
    "none": (),
    "encoder": ("encoder",),
    "tokens": ("encoder", "quantizer"),
}


@dataclass(frozen=True)
class Config:
    """One experiment: data, tokenizer, model, their training, and sampling defaults.

    `allow_untrained_tokenizer` lets the trunk train on a tokenizer whose training has not finished,
    and on a freshly initialised one where the working directory holds none: for smoke runs.
    `batch_size` counts images of one update, on all devices of all hosts; the peak learning rates
    are proportional to it (see `OptimizerConfig`). `discriminator_optimizer` counts its steps from
    the start of the discriminator in the tokenizer's training. With an `adapter`, training changes
    a finished trunk by low-rank adapters, and `model.num_classes` counts the classes of their data.
    `tokenizer_frozen` are the parts of the tokenizer that its training leaves as they are: "none",
    its "encoder", or "tokens", all but the decoder: a trunk of its tokens then fits as before.
    """

    seed: int = 0
    batch_size: int = 768
    allow_untrained_tokenizer: bool = False
    mesh: MeshConfig = field(default_factory=MeshConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    tokenizer_frozen: str = "none"
    tokenizer_loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    tokenizer_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    discriminator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    tokenizer_training: TrainingConfig = field(default_factory=TrainingConfig)
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    @property
    def schedules(self) -> dict[tuple[int, int], ScaleSchedule]:
        """The scales by the size of images, (height, width) in pixels; the tokenizer's own first.

        There is one for every aspect ratio that is trained on.
        """
        own, stride = self.tokenizer.schedule, self.tokenizer.stride
        all_of_them = [own, *(reshaped(own, aspect, None) for aspect in self.data.aspects)]
        return {(stride * each.last[0], stride * each.last[1]): each for each in all_of_them}

    def __post_init__(self):
        check_seed(self.seed)
        _check_small_enough(self)
        check(
            not self.data.aspects or self.model.positions == "rotary",
            "data.aspects: got several ratios for learned positions, which fit one; set "
            "model.positions to 'rotary'.",
        )
        check(
            len(self.schedules) == 1 + len(self.data.aspects),
            f"data.aspects: got {', '.join(self.data.aspects)}, of which two give the same size "
            "of images, or one that of tokenizer.image_size; leave one out.",
        )
        check(self.batch_size >= 1, f"batch_size: got {self.batch_size}, expected at least 1.")
        self.codebook.check_fits(self.tokenizer, self.batch_size)
        check(
            self.tokenizer_frozen in FROZEN,
            f"tokenizer_frozen: got {self.tokenizer_frozen!r}, expected one of {tuple(FROZEN)}.",
        )
        check(
            self.tokenizer_frozen != "tokens" or not self.codebook.restart_below,
            f"codebook.restart_below: got {self.codebook.restart_below} with tokenizer_frozen "
            "'tokens', expected 0, since codes stay as they are; set it to 0.",
        )
        for name in ("training", "tokenizer_training"):
            parts = getattr(self, name).accumulate
            check(
                self.batch_size % parts == 0,
                f"{name}.accumulate: got {parts}, expected a divisor of batch_size "
                f"{self.batch_size}.",
            )
        loss, least = self.tokenizer_loss, self.tokenizer_loss.least_side
        part = self.batch_size // self.tokenizer_training.accumulate
        check(
            loss.lpips == 0 or part % loss.lpips_every == 0,
            f"tokenizer_loss.lpips_every: got {loss.lpips_every}, expected a divisor of the "
            f"{part} images of a batch, or of its part where tokenizer_training.accumulate is "
            "above 1.",
        )
        check(
            loss.adversarial == 0 or min(self.tokenizer.image_size) >= least,
            f"tokenizer_loss.discriminator_layers: got {loss.discriminator_layers}, for which "
            f"images need {least} x {least} pixels, expected less for tokenizer.image_size "
            f"{tuple(self.tokenizer.image_size)}.",
        )
        check(
            self.sampling.guidance_layer < self.model.depth,
            f"sampling.guidance_layer: got {self.sampling.guidance_layer}, expected less than "
            f"the {self.model.depth} blocks of the model.",
        )
        check(
            self.sampling.top_k <= self.tokenizer.vocabulary or self.tokenizer.quantizer == "bsq",
            f"sampling.top_k: got {self.sampling.top_k}, expected at most the vocabulary "
            f"{self.tokenizer.vocabulary}.",
        )


def _check_small_enough(group: Any, path: str = "") -> None:
    """Raises ValueError for a whole number that no int32 holds, but for a seed."""
    for item in dataclasses.fields(group):
        name, value = f"{path}{item.name}", getattr(group, item.name)
        if dataclasses.is_dataclass(value):
            _check_small_enough(value, f"{name}.")
        elif isinstance(value, int) and name != "seed":
            check(value <= LARGEST, f"{name}: got {value}, expected at most {LARGEST}.")
