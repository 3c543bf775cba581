"""The settings of low-rank adapters of a trunk."""

from dataclasses import dataclass

from mvar_jax.checks import check

LAYERS = ("attention", "cross_attention", "ssm", "ffn", "modulation")
"""The parts of a block whose projections may be adapted, as their parameters are named."""


@dataclass(frozen=True)
class AdapterConfig:
    """Low-rank adapters (LoRA, arXiv 2106.09685), trained in place of the trunk's own parameters.

    rank: of the change of every kernel; 0 trains the whole trunk.
    alpha: the change is a product of two matrices, times `alpha / rank`.
    layers: the parts of a block whose projections are changed, of those that it has; "modulation"
        are the adaLN projections.
    """

    rank: int = 0
    alpha: float = 16.0
    layers: tuple[str, ...] = ("attention", "cross_attention", "ssm", "ffn")

    def __post_init__(self):
        check(self.rank >= 0, f"adapter.rank: got {self.rank}, expected 0 (no adapter) or more.")
        check(
            0 < self.alpha < float("inf"),
            f"adapter.alpha: got {self.alpha}, expected more than 0.",
        )
        check(
            bool(self.layers) and set(self.layers) <= set(LAYERS),
            f"adapter.layers: got {self.layers}, expected some of {', '.join(LAYERS)}.",
        )

    @property
    def strength(self) -> float:
        """The factor of the products of matrices; 0 where there is no adapter."""
        return self.alpha / self.rank if self.rank else 0.0
