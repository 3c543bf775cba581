"""ScaleKV's choice among given keys, layer by layer and scale by scale."""

import re
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mvar_jax.cache import AttentionShape, KVCache, Probe
from mvar_jax.cache.plan import GroupPlan
from mvar_jax.cache.policies.scalekv import ScaleKV
from mvar_jax.scales import ScaleSchedule
from tests.conformance_checks.scalekv import EQUAL, SIDES, as_published, settings
from tests.infinity_reference import InfinityFile

GIVEN = re.compile("prefix")


def compute(file: InfinityFile) -> dict[str, np.ndarray]:
    """Every array, by its stored name."""
    computed = {}
    for case, about in file.config.items():
        if "official_code_raises" in about:
            continue  # and left nothing to compare
        with as_published(about, max(about["layers"]) + 1, about["sizes"]):
            for variant in ("lowest_index", "torch"):
                for layer in about["layers"]:
                    name = f"{case}/{variant}/layer{layer}"
                    computed |= _layer(file, about, layer, name)
    return computed


class Cut(NamedTuple):
    """One layer's policy at one scale, with all that it chooses from."""

    policy: ScaleKV
    union: KVCache
    probe: Probe
    group: GroupPlan

    @property
    def kept(self):
        return self.group.keep[self.probe.scale]

    def scores(self):
        return self.policy.score(self.union, self.probe, self.group)


def _layer(file, about, layer, name):
    sizes, shape = about["sizes"], AttentionShape(max(about["layers"]) + 1, about["H"])
    schedule, rows = _schedule(sizes), (about["B"], about["H"])
    policy = ScaleKV(about["base"], **settings(about))
    (group,) = policy.plan(schedule, shape, None).layers[layer]
    cache = KVCache.empty(*rows, about["hd"], jnp.dtype(jnp.float32), schedule)
    computed, lengths = {}, []
    for scale, tokens in enumerate(sizes):
        new = (*rows, tokens, about["hd"])
        key, query = (
            jnp.asarray(file.normal(f"input:skv_{kind}:{layer}:{scale}", new)) for kind in "kq"
        )
        union = cache.append(key, key, schedule.offsets[scale])
        cut = Cut(policy, union, Probe(schedule, scale, query, query, 1.0, None), group)
        cache, arrays = _cut(cut, file.arrays.get(f"{name}_scale{scale}_kept"), "/torch/" in name)
        lengths.append((union.length, cache.length))
        computed |= {f"{name}_scale{scale}_{key}": array for key, array in arrays.items()}
    return computed | {f"{name}_lengths_before_after": np.array(lengths)}


def _schedule(sizes):
    """Scales of so many tokens, and one more, since the last one's keys are not kept."""
    if tuple(sizes) == tuple(side**2 for side in SIDES[: len(sizes)]):
        return ScaleSchedule.squares(*SIDES[: len(sizes)], SIDES[len(sizes) - 1])
    return ScaleSchedule((*((1, size) for size in sizes), (1, max(sizes))))


def _cut(cut, stored, follows):
    """What is left of a union, and the arrays that say so; of equal scores as stored, if asked."""
    if cut.kept == cut.union.length:
        return cut.union, {}
    scores = cut.scores()
    chosen = np.asarray(cut.policy.choose(scores, cut.kept, cut.probe))
    if follows and stored is not None:
        chosen = _followed(cut, np.asarray(scores), stored, chosen)
    cache = cut.union.take(jnp.asarray(chosen))
    return cache, {"kept": np.asarray(cache.position), "masked_pooled_scores": scores}


def _followed(cut, scores, stored, chosen):
    """The stored choice of every row and head, unless it is not one of the best; then our own."""
    window = cut.policy._window(cut.union.length, cut.probe)
    followed = chosen.copy()
    for row in np.ndindex(scores.shape[:2]):
        places = np.asarray(cut.union.position[row], int)
        others = _others(places, scores[row], window, stored[row])
        top = np.sort(scores[row])[::-1][: cut.kept - len(window)]
        found = np.sort(scores[row][others])[::-1]
        if found.shape == top.shape and np.allclose(found, top, rtol=0, atol=EQUAL):
            followed[row] = np.sort([*window, *others])
    return followed


def _others(places, scores, window, stored):
    """The indices of the stored positions beside the window's.

    A token may be there several times, where average pooling left too few finite scores; of its
    copies, which are equal, those with the highest scores are meant.
    """
    others = []
    for place, count in zip(*np.unique(stored, return_counts=True)):
        copies = np.flatnonzero(places == place)
        beside = count - np.isin(copies, window).sum()
        others += copies[np.argsort(-scores[copies], kind="stable")][: max(beside, 0)].tolist()
    return others
