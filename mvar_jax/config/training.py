"""The settings of the optimizer and of a training run."""

from dataclasses import dataclass

from mvar_jax.checks import LARGEST, check, check_range

SCALE_WEIGHTS = ("uniform", "area")
SCHEDULES = ("lin0", "lin", "lin00", "cos", "constant")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW as VAR trains it: warm-up, schedule, decay curve and clipping.

    `learning_rate` is the rate for a batch of 256 images. It is scaled with the batch size: the
    peak is `learning_rate * batch_size / 256`, so 1e-4 peaks at 3e-4 for 768 images. The rate warms
    up linearly from `warmup_start` times the peak over `warmup_fraction` of the steps, then follows
    `schedule` down to `final_fraction` times the peak. Weight decay moves from `weight_decay` to
    `final_weight_decay` along half a cosine over all steps. Gradients are clipped to the global
    norm `clip_norm`.
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

    def peak(self, batch_size: int) -> float:
        """The highest learning rate, which grows with the batch size."""
        return self.learning_rate * batch_size / 256


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train, and how often to log, validate and save. Intervals are in steps.

    `steps` counts updates; 0 means `epochs` passes over the training split. `accumulate` is the
    number of parts that a batch is computed in, one after the other: the result is that of the
    whole batch, in the memory of one part. `ema_decay` 0 keeps no average of the parameters;
    otherwise sampling uses the average. A validation reads at most the images of
    `validation_batches` batches, in parts of the same size. The newest `keep_checkpoints`
    checkpoints are kept, and every checkpoint whose step is a multiple of `keep_every` (0: no
    others). A run stops after `max_skipped` steps in a row whose loss or gradient was NaN or
    infinite. Pictures are drawn every `sample_every` steps (0: never). `profile` is the first and
    the last step to trace, (0, 0) for none. `wandb` is the project on Weights & Biases that a run
    is shown in, "" for none. `scale_weights` weighs the tokens of the trunk's loss: all
    "uniform", or, with "area", each by the square root of how many times smaller its scale is than
    the last.
    """

    steps: int = 0
    epochs: float = 200.0
    accumulate: int = 1
    ema_decay: float = 0.0
    label_smoothing: float = 0.0
    scale_weights: str = "uniform"
    log_every: int = 50
    validate_every: int = 1000
    validation_batches: int = 20
    save_every: int = 1000
    keep_checkpoints: int = 2
    keep_every: int = 0
    max_skipped: int = 20
    sample_every: int = 0
    profile: tuple[int, int] = (0, 0)
    wandb: str = ""

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
        check(
            self.scale_weights in SCALE_WEIGHTS,
            f"training.scale_weights: got {self.scale_weights!r}, expected one of {SCALE_WEIGHTS}.",
        )
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
        """Updates in the whole run, for a training split of `examples` images.

        Raises ValueError where the epochs make more of them than an int32 counts.
        """
        steps = self.steps or self.epochs * examples / batch_size
        check(
            steps <= LARGEST,
            f"training.epochs: got {self.epochs}, which are {steps:g} steps, expected at most "
            f"{LARGEST}; train for fewer.",
        )
        return max(1, round(steps))
