"""Two models on one image: one drafts the first scales, the other draws the rest (CoDe)."""

from dataclasses import replace

from mvar_jax.checks import check, check_integer
from mvar_jax.models.checksum import tokenizer_names
from mvar_jax.sampling.request import Draft, Sampler, Weights


def with_draft(
    sampler: Sampler, weights: Weights, other: Sampler, other_weights: Weights, *, scales: int
) -> tuple[Sampler, Weights]:
    """The sampler and weights for which another model draws the first `scales` scales.

    Both must read the same tokens and conditions (CoDe, arXiv 2411.17787). The other's
    tokenizer is let go. Raises ValueError for a model of another tokenizer, of other scales or
    conditions, or with a draft, and for more scales than there are.
    """
    check(
        sampler.draft is None and other.draft is None,
        "draft: one of the two models has a draft already; start from its original.",
    )
    check(
        other.scales == sampler.scales,
        f"draft: got a model of the scales {other.scales}, expected {sampler.scales}; take one for "
        "the same images.",
    )
    check_integer("draft: scales", scales, 0, len(sampler.scales))
    _check_conditions(sampler.trunk.config, other.trunk.config)
    check(
        tokenizer_names(other_weights.tokenizer)[0] == tokenizer_names(weights.tokenizer)[0],
        "draft: got a model of another tokenizer, whose tokens mean something else; take one that "
        "was trained on the same.",
    )
    shared = replace(other_weights, tokenizer=weights.tokenizer)
    draft = Draft(other.trunk, int(scales))
    return replace(sampler, draft=draft), replace(weights, draft=shared)


def _check_conditions(own, other):
    """Raises ValueError unless two trunks read the same conditions; classes by their number."""
    wanted, got = _conditions(own), _conditions(other)
    check(
        got == wanted,
        f"draft: got a model of {got}, expected one of {wanted}; take one that draws the same.",
    )


def _conditions(config):
    """What a trunk reads, in words."""
    if config.condition == "class":
        return f"{config.num_classes} classes"
    text = config.text
    return f"texts of at most {text.max_length} tokens with {text.channels} channels"
