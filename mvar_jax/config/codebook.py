"""The settings that keep a tokenizer's codes in use while it is trained."""

from dataclasses import dataclass

from mvar_jax.checks import check, check_range
from mvar_jax.config.tokenizer import TokenizerConfig, check_unread

# Settings that only one quantizer reads.
OF_VQ = ("start_batches", "restart_below", "restart_window")
OF_BSQ = ("entropy_weight", "entropy_diversity", "entropy_sharpness")


@dataclass(frozen=True)
class CodebookConfig:
    """How a tokenizer's training keeps its codes in use; by default it does nothing for them.

    None of this changes the tokenizer's parameters or what it computes afterwards, and none of it
    may change when a run is resumed, but for `warn_below`.

    Of vq alone: with `start_batches` the codes start as cluster centres of the features of so
    many batches, instead of uniform around zero. With `restart_below` a code that tokens take less
    often than this share of a code's mean use, in about the last `restart_window` steps, is
    replaced by a residual of the current batch (as in Jukebox, arXiv 2005.00341).

    Of bsq alone: `entropy_weight` weighs the mean entropy of a position's bits less
    `entropy_diversity` times the entropy of the bits' means (BSQ, arXiv 2406.07548),
    with bits as soft as the sigmoid of `entropy_sharpness` times the distances' difference.

    Of both: the share `dropout_rate` of the images is reconstructed from a random number of
    scales, at least `dropout_from` and not all, so that the first scales decode well by themselves
    (XQ-GAN, arXiv 2412.01762: 0.1 from 3). A warning names every scale whose usage stays below
    `warn_below` (0: never).
    """

    start_batches: int = 0
    restart_below: float = 0.0
    restart_window: int = 50
    dropout_rate: float = 0.0
    dropout_from: int = 3
    entropy_weight: float = 0.0
    entropy_diversity: float = 1.0
    entropy_sharpness: float = 100.0
    warn_below: float = 0.05

    def __post_init__(self):
        check(
            self.start_batches >= 0,
            f"codebook.start_batches: got {self.start_batches}, expected 0 (off) or more.",
        )
        check(
            self.restart_window >= 1,
            f"codebook.restart_window: got {self.restart_window}, expected at least 1 step.",
        )
        check(
            self.dropout_from >= 1,
            f"codebook.dropout_from: got {self.dropout_from}, expected at least 1 scale.",
        )
        for name in ("restart_below", "dropout_rate", "warn_below"):
            check_range(f"codebook.{name}", getattr(self, name), 0.0, 1.0)
        for name in ("entropy_weight", "entropy_diversity"):
            check_range(f"codebook.{name}", getattr(self, name), 0.0, 1000.0)
        check(
            0 < self.entropy_sharpness < float("inf"),
            f"codebook.entropy_sharpness: got {self.entropy_sharpness}, expected more than 0.",
        )

    def check_fits(self, tokenizer: TokenizerConfig, batch_size: int) -> None:
        """Raises ValueError for settings that do not fit a tokenizer, or that it does not read."""
        quantizer = tokenizer.quantizer
        check_unread("codebook", self, OF_BSQ if quantizer == "vq" else OF_VQ, quantizer)
        scales = len(tokenizer.schedule)
        check(
            not self.dropout_rate or self.dropout_from < scales,
            f"codebook.dropout_from: got {self.dropout_from} for {scales} scales, expected less, "
            "so that there is something to drop; lower it, or set codebook.dropout_rate to 0.",
        )
        vectors = self.start_batches * batch_size * tokenizer.schedule.lengths[-1]
        check(
            not self.start_batches or vectors >= tokenizer.vocabulary,
            f"codebook.start_batches: got {self.start_batches}, whose {vectors} features cannot "
            f"start {tokenizer.vocabulary} codes; raise it, or set it to 0.",
        )
