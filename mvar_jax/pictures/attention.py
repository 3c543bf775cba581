"""Plots of a calibration: kinds of heads, kinds of layers, and attention maps."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mvar_jax.array_types import Float
from mvar_jax.cache import AttentionShape, Policy, Profile
from mvar_jax.cache.observation import attention_map
from mvar_jax.cache.policies.ams_kv import AMSKV
from mvar_jax.cache.policies.hack import HeadAware
from mvar_jax.cache.policies.scalekv import ScaleKV
from mvar_jax.scales import ScaleSchedule

EXAMPLES = 4  # heads of either kind whose attention is shown


def draw_profile(profile: Profile, policy: Policy) -> Figure:
    """The plot for a policy: its kinds of heads, its kinds of layers, or the attention it ranks."""
    if isinstance(policy, HeadAware):
        return draw_head_kinds(profile, policy)
    if isinstance(policy, ScaleKV):
        return draw_layer_kinds(profile, policy)
    if isinstance(policy, AMSKV):
        return draw_similarity(profile, policy)
    return draw_demand(profile)


def draw_head_kinds(profile: Profile, policy: HeadAware) -> Figure:
    """The variance of every head, the contextual heads, and the sorted variances."""
    shape = AttentionShape(*profile.head_variance.shape)
    contextual = policy.contextual(shape, profile)
    figure = Figure((11, 4), layout="constrained")
    kinds, values, curve = figure.subplots(1, 3)
    _map(kinds, contextual, "head", "layer", "contextual heads (dark)", "Greys")
    image = _map(
        values,
        np.log10(profile.head_variance + 1e-12),
        "head",
        "layer",
        "log10 of variance",
        "viridis",
    )
    figure.colorbar(image, ax=values)
    ordered = np.sort(profile.head_variance, axis=None)
    curve.semilogy(ordered, ".-")
    curve.axvline(contextual.sum() - 0.5, color="black", linestyle=":")
    curve.set(xlabel="heads, sorted", title="variance over queries, sorted")
    return figure


def draw_layer_kinds(profile: Profile, policy: ScaleKV) -> Figure:
    """The selectivity index of layers and scales, and the pairs that are drafters."""
    shape, schedule = AttentionShape(*profile.head_variance.shape), profile.schedule
    figure = Figure((9, 4), layout="constrained")
    kinds, values = figure.subplots(1, 2)
    drafters = policy.drafters(schedule, shape, profile)
    _map(kinds, drafters, "scale", "layer", "drafters (dark)", "Greys")
    image = _map(
        values, profile.selectivity, "scale", "layer", "attention selectivity index", "viridis"
    )
    figure.colorbar(image, ax=values)
    return figure


def draw_similarity(profile: Profile, policy: AMSKV) -> Figure:
    """How alike the keys of adjacent scales are by layer, and which layers are demanding."""
    demanding, similarity = policy.demanding(profile), profile.key_similarity
    assert similarity is not None  # else no layer could be called demanding
    figure = Figure((9, 4), layout="constrained")
    values, means = figure.subplots(1, 2)
    image = _map(values, similarity[:, 1:], "scale", "layer", "similarity of keys", "viridis")
    image.set_extent((0.5, similarity.shape[1] - 0.5, len(similarity) - 0.5, -0.5))
    figure.colorbar(image, ax=values)
    colours = ["black" if kind else "lightgrey" for kind in demanding]
    means.barh(np.arange(len(demanding)), similarity[:, 1:].mean(axis=1), color=colours)
    means.axvline(policy.threshold, color="black", linestyle=":")
    means.set(xlabel="mean over scales", ylabel="layer", title="demanding layers (black)")
    return figure


def draw_demand(profile: Profile) -> Figure:
    """The attention that each scale's tokens receive from each later scale, mean over heads."""
    layers = profile.mass.mean(axis=1)
    columns = min(4, len(layers))
    rows = math.ceil(len(layers) / columns)
    figure = Figure((2.6 * columns, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for layer, ax in enumerate(axes[: len(layers)]):
        _map(ax, layers[layer], "keys' scale", "queries' scale", f"layer {layer}", "viridis")
    for ax in axes[len(layers) :]:
        ax.axis("off")
    return figure


def draw_attention(
    profile: Profile,
    query: Float[np.ndarray, "layers heads n dim"],
    key: Float[np.ndarray, "layers heads total dim"],
    *,
    softmax_scale: float,
) -> Figure:
    """Attention maps of one image's last scale: heads of least and of most variance.

    Contextual heads show stripes, structural ones diagonals, one for every earlier scale.
    Lines part the scales.
    """
    heads = profile.head_variance.shape[1]
    ranked = np.argsort(profile.head_variance, axis=None)
    shown = min(EXAMPLES, max(1, len(ranked) // 2))
    chosen = [*ranked[:shown], *ranked[-shown:]]
    figure = Figure((3.4 * max(shown, 2), 5.2), layout="constrained")
    axes = figure.subplots(2, shown, squeeze=False).reshape(-1)
    for place, (ax, head) in enumerate(zip(axes, chosen)):
        at = divmod(int(head), heads)
        shares = attention_map(query[at], key[at], softmax_scale)
        kind = "least" if place < shown else "most"
        _attention(ax, shares, profile.schedule, f"layer {at[0]}, head {at[1]} ({kind} variance)")
    return figure


def _attention(ax: Axes, shares: np.ndarray, schedule: ScaleSchedule, title: str) -> None:
    ax.imshow(np.sqrt(shares), aspect="auto", cmap="magma", interpolation="nearest")
    for offset in schedule.offsets[1:]:
        ax.axvline(offset - 0.5, color="white", linewidth=0.4)
    ax.set_title(title, fontsize=8)
    ax.set_xlabel("key token", fontsize=7)
    ax.set_ylabel("query token", fontsize=7)
    ax.tick_params(labelsize=6)


def _map(ax: Axes, values: np.ndarray, across: str, down: str, title: str, colours: str):
    image = ax.imshow(values, aspect="auto", cmap=colours, interpolation="nearest")
    ax.set(xlabel=across, ylabel=down, title=title)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    return image
