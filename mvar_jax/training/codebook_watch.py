"""Notices, in the rows that a training logs, scales whose codes collapse."""

from mvar_jax.config import CodebookConfig, TokenizerConfig
from mvar_jax.training.metrics import Row

SETTLED = 100
"""Steps after which usage is judged: before, all codes may still be where they started."""


class UsageWatch:
    """Gives a sentence, once per scale, when two rows in a row show a low usage.

    Low is a usage below `warn_below`, or one code for all of several tokens, which in small batches
    is no small share.
    """

    def __init__(self, config: CodebookConfig, tokenizer: TokenizerConfig):
        self._config, self._tokenizer = config, tokenizer
        self._low: set[int] = set()
        self._named: set[int] = set()

    def __call__(self, row: Row) -> list[str]:
        """Sentences about a row, in the order of rows; none where nothing is wrong."""
        if row["step"] is None or row["step"] < SETTLED or not self._config.warn_below:
            return []
        low = {
            scale
            for scale in range(1, len(self._tokenizer.schedule) + 1)
            if self._is_low(row.get(f"usage_scale_{scale}"), row.get(f"perplexity_scale_{scale}"))
        }
        lasting, self._low = (low & self._low) - self._named, low
        self._named |= lasting
        return [self._sentence(row, scale) for scale in sorted(lasting)]

    def _is_low(self, usage: float | None, perplexity: float | None) -> bool:
        if usage is None or perplexity is None:
            return False
        return usage < self._config.warn_below or (usage < 1 and perplexity <= 1)

    def _sentence(self, row: Row, scale: int) -> str:
        usage, perplexity = row[f"usage_scale_{scale}"], row[f"perplexity_scale_{scale}"]
        kind = "codes" if self._tokenizer.quantizer == "vq" else "bits"
        return (
            f"step {row['step']}: scale {scale} uses {usage:.1%} of the {kind} that it could "
            f"(perplexity {perplexity:.3g}), and its pictures can tell little; {self._advice()} "
            "(docs/tokenizers.md)"
        )

    def _advice(self) -> str:
        """What to change, of what is not set yet."""
        config = self._config
        if self._tokenizer.quantizer == "bsq":
            unset = {"entropy_weight": 0.1} if not config.entropy_weight else {}
        else:
            unset = {"restart_below": 0.2} if not config.restart_below else {}
        if not unset:
            return "train again with a lower tokenizer_optimizer.learning_rate"
        flags = " ".join(f"--config.codebook.{name}={value}" for name, value in unset.items())
        return f"train again, in another --workdir, with {flags}"
