"""What can be configured: frozen dataclasses, validated where they are built.

The defaults here are the truth. Files under `configs/` set what differs, `--config.a.b=v`
overrides on the command line, and `config_tree` turns the result back into these values; library
code only ever receives dataclasses. Errors are ValueErrors of one sentence: what was
got, what was expected, how to mend it.
"""

import dataclasses
from dataclasses import dataclass, field

from mvar_jax.scales import VAR_256, ScaleSchedule


def check(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_range(name: str, value: int | float, low: int | float, high: int | float) -> None:
    """Raises ValueError unless low <= value <= high."""
    check(low <= value <= high, f"{name}: got {value}, expected a number from {low} to {high}.")


def check_seed(seed: int) -> None:
    """Raises ValueError unless the seed fits the random number generators."""
    check_range("seed", seed, 0, 2**32 - 1)


@dataclass(frozen=True)
class DataConfig:
    """Which images are read, and how they are prepared.

    `name` is a TFDS builder, or "folder" for a folder of class folders; `directory` is where
    prepared data or the folder lies ("" is TFDS's own default, the environment variable
    TFDS_DATA_DIR or ~/tensorflow_datasets). `augmentation` is "crop" (short side resized to
    `resize_ratio` times the image, then a random crop: the official recipe), "shift" (moved by up
    to `max_shift` pixels, the border repeated) or "none".

    Images are read by `num_threads` threads, or by `num_workers` processes where it is not 0.
    `tokens` and `validation_tokens` are directories that `python -m mvar_jax.tokenize` wrote: the
    trunk then trains, or is validated, on these instead of images.
    """

    name: str = "imagenet"
    directory: str = ""
    train_split: str = "train"
    validation_split: str = "validation"
    augmentation: str = "crop"
    resize_ratio: float = 1.125
    max_shift: int = 1
    num_threads: int = 16
    num_workers: int = 0
    tokens: str = ""
    validation_tokens: str = ""

    def __post_init__(self):
        kinds = ("crop", "shift", "none")
        check(
            self.augmentation in kinds,
            f"data.augmentation: got {self.augmentation!r}, expected one of {kinds}.",
        )
        check_range("data.resize_ratio", self.resize_ratio, 1.0, 4.0)
        check_range("data.max_shift", self.max_shift, 0, 64)
        check_range("data.num_threads", self.num_threads, 0, 512)
        check_range("data.num_workers", self.num_workers, 0, 512)


@dataclass(frozen=True)
class TokenizerConfig:
    """The multi-scale residual VQ tokenizer (VAR, arXiv 2404.02905, section 3; ch160v4096z32).

    `image_size` is (height, width) in pixels, `scales` the token maps; the last one must be the
    image divided by `stride`. `stem_stride` 1 is the official 3x3 stem; larger strides fold
    patches in the first and unfold them in the last layer, for small images on small machines.
    `shared_convolutions` residual convolutions are shared over the scales; 0 means one a scale.
    """

    image_size: tuple[int, int] = (256, 256)
    scales: tuple[tuple[int, int], ...] = VAR_256.sizes
    vocabulary: int = 4096
    code_channels: int = 32
    base_channels: int = 160
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks_per_level: int = 2
    stem_stride: int = 1
    norm_groups: int = 32
    attention: bool = True
    shared_convolutions: int = 4
    residual_ratio: float = 0.5
    normalize_codes: bool = False
    commitment: float = 0.25

    def __post_init__(self):
        check(
            len(self.image_size) == 2,
            f"tokenizer.image_size: got {self.image_size}, expected (height, width).",
        )
        check_range("tokenizer.vocabulary", self.vocabulary, 2, 2**24)
        for name in (
            "code_channels",
            "base_channels",
            "blocks_per_level",
            "stem_stride",
            "norm_groups",
        ):
            check(
                getattr(self, name) >= 1,
                f"tokenizer.{name}: got {getattr(self, name)}, expected at least 1.",
            )
        check(
            len(self.channel_multipliers) >= 1,
            "tokenizer.channel_multipliers: got none, expected one per level.",
        )
        for multiplier in self.channel_multipliers:
            channels = self.base_channels * multiplier
            check(
                channels % self.norm_groups == 0,
                f"tokenizer: {channels} channels (base_channels {self.base_channels} x "
                f"{multiplier}) do not divide into norm_groups {self.norm_groups}; choose a "
                "divisor.",
            )
        check(
            self.shared_convolutions >= 0,
            f"tokenizer.shared_convolutions: got {self.shared_convolutions}, expected 0 (one a "
            "scale) or more.",
        )
        height, width = (side / self.stride for side in self.image_size)
        check(
            (height, width) == self.schedule.last,
            f"tokenizer: the last scale {self.schedule.last} does not match the image "
            f"{tuple(self.image_size)}, which divided by {self.stride} gives "
            f"({height:g}, {width:g}); change scales or image_size.",
        )

    @property
    def schedule(self) -> ScaleSchedule:
        """The scales as a ScaleSchedule."""
        return ScaleSchedule.of(self.scales)

    @property
    def stride(self) -> int:
        """Pixels per token of the last scale, along each side."""
        return self.stem_stride * 2 ** (len(self.channel_multipliers) - 1)


ATTENTION_REACHES = ("scale", "history")
MAX_BRANCHES = 3  # of a block: attention, SSM, feed-forward


@dataclass(frozen=True)
class BlockKind:
    """Which mixers a block has: attention over its scale or over the history, and an SSM or not."""

    attention_reach: str
    ssm: bool

    @classmethod
    def parse(cls, name: str) -> "BlockKind":
        """From "scale", "history", "scale+ssm" (M-VAR) or "history+ssm"; "history" is VAR."""
        reach, *rest = name.split("+")
        check(
            reach in ATTENTION_REACHES and rest in ([], ["ssm"]),
            f"model.pattern: got {name!r}, expected 'scale+ssm' (M-VAR), 'history' (VAR), 'scale' "
            "or 'history+ssm'.",
        )
        return cls(reach, rest == ["ssm"])

    @property
    def branches(self) -> int:
        """Residual branches: attention, SSM if any, feed-forward. Three vectors modulate each."""
        return 3 if self.ssm else 2


@dataclass(frozen=True)
class SSMConfig:
    """The Mamba-2 layer (arXiv 2405.21060): sizes as in `Mamba2(d_state, d_conv, expand, headdim)`.

    `chunk` is the number of tokens that are mixed by one matrix product; it changes speed and
    memory, not the result.
    """

    state_size: int = 64
    conv_size: int = 4
    expand: int = 2
    head_dim: int = 64
    chunk: int = 256

    def __post_init__(self):
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            check(value >= 1, f"model.ssm.{item.name}: got {value}, expected at least 1.")
        check(
            self.conv_size >= 2, f"model.ssm.conv_size: got {self.conv_size}, expected at least 2."
        )


@dataclass(frozen=True)
class InitConfig:
    """Factors of the official initialisation (methods of VAR's `init_weights`).

    Every linear layer and embedding starts normal with std sqrt(1 / (3 width)). `head` scales
    the logits' weights, `modulation` the adaLN projections, `gate` the first two gates in place
    of `modulation` (a third gate, M-VAR's feed-forward, keeps `modulation`, as released).
    """

    head: float = 0.02
    modulation: float = 0.5
    gate: float = 1e-5


KERNELS = ("auto", "pallas", "none")
REMATS = ("none", "products", "full")


@dataclass(frozen=True)
class ModelConfig:
    """The trunk: `depth` blocks of the kinds in `pattern`, repeated.

    `num_classes` 0 stands for the dataset's number, which training puts in its place. `pattern`
    ("scale+ssm",) is M-VAR, ("history",) is VAR, ("scale",) the control without
    mixing over scales; longer patterns mix kinds layer by layer. `drop_path_rate` is the rate
    in the last block, rising linearly from 0. `class_drop_rate` is the share of labels that
    training replaces by "no class". `qk_norm` is cosine attention with a learned scale per head
    (`attn_l2_norm` in the official code); without it the softmax scale is 0.25 / sqrt(head_dim).
    `kernels` says whether training runs fused kernels: "auto" on TPUs, "pallas" everywhere
    (interpreted, so slowly, off TPUs), "none" nowhere; the numbers are the same. `remat` is what
    the backward pass computes again to save memory: "none", all but "products" with weights, or
    "full", everything inside a repetition of the pattern.
    """

    num_classes: int = 1000
    depth: int = 16
    width: int = 1024
    heads: int = 16
    pattern: tuple[str, ...] = ("scale+ssm",)
    mlp_ratio: float = 4.0
    qk_norm: bool = True
    shared_modulation: bool = False
    drop_path_rate: float = 0.0
    class_drop_rate: float = 0.1
    norm_epsilon: float = 1e-6
    ssm: SSMConfig = field(default_factory=SSMConfig)
    init: InitConfig = field(default_factory=InitConfig)
    compute_dtype: str = "float32"
    kernels: str = "auto"
    remat: str = "none"
    scan: bool = True

    def __post_init__(self):
        check(
            self.num_classes >= 0,
            f"model.num_classes: got {self.num_classes}, expected 0 (the dataset's) or more.",
        )
        for name in ("depth", "width", "heads"):
            check(
                getattr(self, name) >= 1,
                f"model.{name}: got {getattr(self, name)}, expected at least 1.",
            )
        check(
            self.width % self.heads == 0,
            f"model: width {self.width} is not divisible by heads {self.heads}; change one.",
        )
        check(
            len(self.pattern) >= 1,
            "model.pattern: got nothing, expected at least one kind of block.",
        )
        check(
            self.depth % len(self.pattern) == 0,
            f"model: depth {self.depth} is not a multiple of the pattern's length "
            f"{len(self.pattern)}.",
        )
        if any(kind.ssm for kind in self.kinds):
            check(
                (self.ssm.expand * self.width) % self.ssm.head_dim == 0,
                f"model: the SSM's inner width {self.ssm.expand * self.width} is not divisible by "
                f"ssm.head_dim {self.ssm.head_dim}; change one of them.",
            )
        if self.shared_modulation:
            check(
                len({kind.branches for kind in self.kinds}) == 1,
                "model: shared_modulation needs blocks with equally many branches; "
                "the pattern mixes them.",
            )
        for name in ("drop_path_rate", "class_drop_rate"):
            check_range(f"model.{name}", getattr(self, name), 0.0, 0.999)
        check(self.mlp_ratio > 0, f"model.mlp_ratio: got {self.mlp_ratio}, expected more than 0.")
        check_range("model.norm_epsilon", self.norm_epsilon, 0.0, 1.0)
        for name, known in (("kernels", KERNELS), ("remat", REMATS)):
            check(
                getattr(self, name) in known,
                f"model.{name}: got {getattr(self, name)!r}, expected one of {known}.",
            )
        dtypes = ("float32", "bfloat16")
        check(
            self.compute_dtype in dtypes,
            f"model.compute_dtype: got {self.compute_dtype!r}, expected one of {dtypes}.",
        )

    @property
    def kinds(self) -> tuple[BlockKind, ...]:
        """The kinds of block in one repetition of the pattern."""
        return tuple(BlockKind.parse(name) for name in self.pattern)

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def softmax_scale(self) -> float:
        """What products of queries and keys are multiplied by; queries may carry more."""
        return 1.0 if self.qk_norm else 0.25 * self.head_dim**-0.5


SCHEDULES = ("lin0", "lin", "lin00", "cos", "constant")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as VAR trains it: warm-up, schedule, decay curve and clipping.

    `learning_rate` is the base rate per 256 images: the peak is `learning_rate * batch_size /
    256`. It warms up linearly from `warmup_start` times the peak over `warmup_fraction` of the
    steps, then follows `schedule` down to `final_fraction` times the peak. Weight decay moves
    from `weight_decay` to `final_weight_decay` along half a cosine over all steps. Gradients are
    clipped to the global norm `clip_norm`.
    """

    learning_rate: float = 1e-4
    schedule: str = "lin0"
    warmup_fraction: float = 0.02
    warmup_start: float = 0.005
    final_fraction: float = 0.1
    weight_decay: float = 0.05
    final_weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 2.0

    def __post_init__(self):
        check(
            0 < self.learning_rate < float("inf"),
            f"optimizer.learning_rate: got {self.learning_rate}, expected more than 0.",
        )
        check(
            self.schedule in SCHEDULES,
            f"optimizer.schedule: got {self.schedule!r}, expected one of {SCHEDULES}.",
        )
        for name in (
            "warmup_fraction",
            "warmup_start",
            "final_fraction",
            "weight_decay",
            "final_weight_decay",
        ):
            check_range(f"optimizer.{name}", getattr(self, name), 0.0, 1.0)
        for name in ("beta1", "beta2"):
            check_range(f"optimizer.{name}", getattr(self, name), 0.0, 0.999999)
        check(
            self.clip_norm > 0, f"optimizer.clip_norm: got {self.clip_norm}, expected more than 0."
        )


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train and how often to look. Intervals are in steps.

    `steps` counts updates; 0 means `epochs` passes over the training split. `accumulate` is the
    number of parts that a batch is computed in, one after the other: the result is that of the
    whole batch, in the memory of one part. `ema_decay` 0 keeps no average of the parameters;
    otherwise sampling uses the average. A validation looks at `validation_batches` batches at
    most. The newest `keep_checkpoints` checkpoints are kept, and of steps that divide by
    `keep_every` all (0: none more). A run stops after `max_skipped` steps in a row whose loss or
    gradient was not finite. Pictures are drawn every `sample_every` steps (0: never). `profile`
    is the first and the last step to trace, (0, 0) for none.
    """

    steps: int = 0
    epochs: float = 200.0
    accumulate: int = 1
    ema_decay: float = 0.0
    label_smoothing: float = 0.0
    log_every: int = 50
    validate_every: int = 1000
    validation_batches: int = 20
    save_every: int = 1000
    keep_checkpoints: int = 2
    keep_every: int = 0
    max_skipped: int = 20
    sample_every: int = 0
    profile: tuple[int, int] = (0, 0)

    def __post_init__(self):
        check(
            self.steps >= 0, f"training.steps: got {self.steps}, expected 0 (use epochs) or more."
        )
        check(
            self.steps > 0 or self.epochs > 0,
            f"training.epochs: got {self.epochs}, expected more than 0.",
        )
        check_range("training.ema_decay", self.ema_decay, 0.0, 0.999999)
        check_range("training.label_smoothing", self.label_smoothing, 0.0, 0.999)
        for name in (
            "accumulate",
            "log_every",
            "validate_every",
            "validation_batches",
            "save_every",
            "keep_checkpoints",
            "max_skipped",
        ):
            check(
                getattr(self, name) >= 1,
                f"training.{name}: got {getattr(self, name)}, expected at least 1.",
            )
        for name in ("keep_every", "sample_every"):
            check(
                getattr(self, name) >= 0,
                f"training.{name}: got {getattr(self, name)}, expected 0 (off) or more.",
            )
        check(
            tuple(self.profile) == (0, 0)
            or (len(self.profile) == 2 and 1 <= self.profile[0] <= self.profile[1]),
            f"training.profile: got {self.profile}, expected the first and the last step to "
            "trace, as in (10, 12), or (0, 0) for none.",
        )

    def total_steps(self, examples: int, batch_size: int) -> int:
        """Updates in the whole run, for a training split of `examples` images."""
        return self.steps or max(1, round(self.epochs * examples / batch_size))


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults of sampling (VAR, `autoregressive_infer_cfg`).

    `guidance` grows linearly from 0 at the first scale to its full value at the last:
    logits = (1 + t) conditional - t unconditional. `top_k` 0 and `top_p` 0 or 1 filter nothing.
    `smooth` mixes codes by a Gumbel softmax instead of drawing tokens: for pictures only.
    """

    guidance: float = 1.5
    top_k: int = 900
    top_p: float = 0.96
    temperature: float = 1.0
    smooth: bool = False

    def __post_init__(self):
        check_range("sampling.guidance", self.guidance, 0.0, 1000.0)
        check(self.top_k >= 0, f"sampling.top_k: got {self.top_k}, expected 0 (off) or more.")
        check_range("sampling.top_p", self.top_p, 0.0, 1.0)
        check(
            self.temperature > 0,
            f"sampling.temperature: got {self.temperature}, expected more than 0.",
        )


@dataclass(frozen=True)
class MeshConfig:
    """How devices are arranged (docs/sharding.md); -1, on one axis, takes all that remain.

    Images are split over `data` and `fsdp`, parameters over `fsdp` (gathered layer by layer) and
    `tensor` (heads and hidden channels). The product of the axes is the number of devices.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self):
        sizes = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        for name, size in sizes.items():
            check(
                size >= 1 or size == -1,
                f"mesh.{name}: got {size}, expected at least 1, or -1 for all remaining devices.",
            )
        rest = [name for name, size in sizes.items() if size == -1]
        check(len(rest) <= 1, f"mesh: got -1 for {' and '.join(rest)}, expected it once at most.")


@dataclass(frozen=True)
class Config:
    """One experiment: data, tokenizer, model, their training, and sampling defaults.

    `allow_untrained_tokenizer` lets the trunk train on a freshly initialised tokenizer when the
    working directory holds none: for smoke runs. `batch_size` counts images of one update, on all
    devices of all hosts.
    """

    seed: int = 0
    batch_size: int = 768
    allow_untrained_tokenizer: bool = False
    mesh: MeshConfig = field(default_factory=MeshConfig)
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    tokenizer_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    tokenizer_training: TrainingConfig = field(default_factory=TrainingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self):
        check_seed(self.seed)
        check(self.batch_size >= 1, f"batch_size: got {self.batch_size}, expected at least 1.")
        for name in ("training", "tokenizer_training"):
            parts = getattr(self, name).accumulate
            check(
                self.batch_size % parts == 0,
                f"{name}.accumulate: got {parts}, expected a divisor of batch_size "
                f"{self.batch_size}.",
            )
        check(
            self.sampling.top_k <= self.tokenizer.vocabulary,
            f"sampling.top_k: got {self.sampling.top_k}, expected at most the vocabulary "
            f"{self.tokenizer.vocabulary}.",
        )
