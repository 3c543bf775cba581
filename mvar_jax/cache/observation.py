"""A full cache that also sums statistics of its attention, for calibration."""

from dataclasses import replace

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.array_types import Array, Float, Leaf
from mvar_jax.cache.compression import Compression, prepare_compression
from mvar_jax.cache.layer_cache import LayerCache
from mvar_jax.cache.plan import AttentionShape
from mvar_jax.cache.policies.base import attention_shares, spread
from mvar_jax.scales import ScaleSchedule

SELECTIVITY_QUERIES = 16
SELECTIVITY_KEYS = 64  # inferred: the paper does not say how many keys count as few
QUERIES_AT_ONCE = 64


@flax.struct.dataclass
class Statistics:
    """Sums over the conditional rows of a batch; see `Profile`."""

    variance: Leaf  # [heads]
    mass: Leaf  # [heads, scales, scales]
    selectivity: Leaf  # [scales]
    similarity: Leaf  # [scales]
    query: Leaf = None  # of the first image at the last scale, [heads, n, dim]
    key: Leaf = None  # of the first image, all scales, [heads, total, dim]


@flax.struct.dataclass
class ObservedCache(LayerCache):
    """A full cache that sums statistics of its attention. Rows are pairs of guidance."""

    statistics: Statistics = flax.struct.field(kw_only=True)

    def attend(
        self,
        query: Float[Array, "batch heads n dim"],
        key: Float[Array, "batch heads n dim"],
        value: Float[Array, "batch heads n dim"],
        raw_query: Float[Array, "batch heads n dim"],
        softmax_scale: float,
        scale: int,
        implementation: str = "auto",
    ) -> tuple[Float[Array, "batch heads n dim"], "ObservedCache"]:
        """As `LayerCache.attend`, with the scale's attention added to the statistics."""
        keys = jnp.concatenate([self.groups[0].key, key], axis=2)[::2]
        mixed, cache = super().attend(
            query, key, value, raw_query, softmax_scale, scale, implementation
        )
        statistics = _observe(
            self.statistics, query[::2], keys, softmax_scale, self.schedule, scale
        )
        return mixed, replace(self, groups=cache.groups, statistics=statistics)


@flax.struct.dataclass
class Observation(Compression):
    """The full policy with observed caches."""

    def empty_layer(self, layer: int, batch: int, dim: int, dtype: jnp.dtype) -> ObservedCache:
        """An observed cache before the first scale."""
        cache = super().empty_layer(layer, batch, dim, dtype)
        heads, scales = cache.plan[0].heads, len(self.schedule)
        statistics = Statistics(
            variance=jnp.zeros(heads),
            mass=jnp.zeros((heads, scales, scales)),
            selectivity=jnp.zeros(scales),
            similarity=jnp.zeros(scales),
        )
        return ObservedCache(**vars(cache), statistics=statistics)


def observe_full(schedule: ScaleSchedule, shape: AttentionShape) -> Observation:
    """A full compression with observed caches, for `Trunk.empty_memory`."""
    return Observation(**vars(prepare_compression("full", schedule, shape)))


def _observe(statistics, query, key, softmax_scale, schedule, scale):
    first, second = _moments(query, key, softmax_scale)
    by_scale = [jnp.sum(first[..., own], axis=-1) for own in schedule.slices[: scale + 1]]
    mass = jnp.sum(jnp.stack(by_scale, axis=-1), axis=0)  # over images, [heads, scale + 1]
    statistics = replace(
        statistics,
        mass=statistics.mass.at[:, scale, : scale + 1].add(mass),
        selectivity=statistics.selectivity.at[scale].add(
            _selectivity(query, key, softmax_scale, schedule.offsets[scale])
        ),
        similarity=statistics.similarity.at[scale].add(_similarity(key, schedule, scale)),
    )
    if scale + 1 < len(schedule):
        return statistics
    # Rounding could make the variance of a head with uniform attention negative.
    variance = jnp.sum(jnp.maximum(second - first**2, 0), axis=(0, 2))
    total = statistics.variance + variance
    return replace(statistics, variance=total, query=query[0], key=key[0])


def _moments(query, key, softmax_scale):
    """Mean and mean square over queries of the attention to every key, [batch, heads, m]."""
    tokens = query.shape[2]
    pieces = -(-tokens // QUERIES_AT_ONCE)
    padding = -tokens % pieces
    query = jnp.pad(query, ((0, 0), (0, 0), (0, padding), (0, 0)))
    valid = (jnp.arange(tokens + padding) < tokens).reshape(pieces, -1)
    split = jnp.moveaxis(query.reshape(*query.shape[:2], pieces, -1, query.shape[3]), 2, 0)

    def add(sums, piece):
        query, valid = piece
        shares = attention_shares(query, key, softmax_scale) * valid[:, None]
        return (sums[0] + shares.sum(axis=2), sums[1] + (shares**2).sum(axis=2)), None

    zeros = jnp.zeros(key.shape[:3])
    sums, _ = jax.lax.scan(add, (zeros, zeros), (split, valid))
    return tuple(total / tokens for total in sums)


def _selectivity(query, key, softmax_scale, history):
    """ScaleKV's index (arXiv 2505.19602): mass on this scale times mass on few earlier keys.

    Attention is averaged over heads first. Summed over images; 0 without a history.
    """
    if history == 0:
        return 0.0
    chosen = spread(query.shape[2], SELECTIVITY_QUERIES)
    shares = attention_shares(query[:, :, chosen], key, softmax_scale).mean(axis=1)
    current = shares[..., history:].sum(axis=-1).mean(axis=-1)
    few = jax.lax.top_k(shares[..., :history], min(SELECTIVITY_KEYS, history))[0]
    return jnp.sum(current * few.sum(axis=-1).mean(axis=-1))


def _similarity(key, schedule, scale):
    """Cosine of each key with the one at the same place in the scale before, mean over heads.

    AMS-KV (arXiv 2511.16047) compares adjacent scales; that the coarser one is enlarged to the
    nearest token is inferred. Summed over images; 0 at the first scale.
    """
    if scale == 0:
        return 0.0
    coarse, fine = schedule.sizes[scale - 1 : scale + 1]
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(coarse, fine)
    )
    before = schedule.offsets[scale - 1] + (rows[:, None] * coarse[1] + columns).reshape(-1)
    wide = key.astype(jnp.promote_types(key.dtype, jnp.float32))
    unit = wide / jnp.maximum(jnp.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)
    cosines = jnp.sum(unit[:, :, schedule.slices[scale]] * unit[:, :, before], axis=-1)
    return jnp.sum(cosines.mean(axis=(1, 2)))


def attention_map(
    query: Float[np.ndarray, "n dim"], key: Float[np.ndarray, "m dim"], softmax_scale: float
) -> Float[np.ndarray, "n m"]:
    """Softmax attention of one head, for plots."""
    queries, keys = jnp.asarray(query)[None, None], jnp.asarray(key)[None, None]
    return np.asarray(attention_shares(queries, keys, softmax_scale)[0, 0])
