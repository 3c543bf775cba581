"""The start of a codebook from data: codes at cluster centres of what they will quantize."""

import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Float, Key
from mvar_jax.ops.kmeans import kmeans
from mvar_jax.ops.quantize import nearest_code
from mvar_jax.scales import ScaleSchedule
from mvar_jax.tokenizers.residual_vq import ResidualQuantizer, vectors_at

VECTORS_PER_CODE = 64  # at most, that centres are means of


def codes_from_features(
    quantizer: ResidualQuantizer,
    features: Float[Array, "batch h w code"],
    schedule: ScaleSchedule,
    key: Key[Array, ""],
) -> Float[Array, "vocab code"]:
    """A codebook for a bound quantizer, from the features of some images.

    All scales share the codebook, but quantize different vectors: the first one means of whole
    images, the last ones small residuals, which are by far the most. Centres of all of them at once
    would leave the first scales almost none, and what the residuals are is not known before there
    are codes. Hence one scale after the other, coarse to fine: each gets an equal share of the
    codes still to be placed (or a code per vector, if it has fewer), at centres of the residuals
    that the codes so far leave of the features.
    """
    running, codes = quantizer.start(len(features), schedule), []
    placed, vocabulary = 0, quantizer.config.vocabulary
    for scale, size in enumerate(schedule.sizes):
        left = vectors_at(features - running, size)
        vectors = rearrange(left, "batch n code -> (batch n) code")
        share = min(-(-(vocabulary - placed) // (len(schedule) - scale)), len(vectors))
        if share:
            codes.append(_centres(jax.random.fold_in(key, scale), vectors, share))
        placed += share
        found = jnp.concatenate(codes)
        tokens = nearest_code(left, found, quantizer.config.normalize_codes)
        running, _ = quantizer.accumulate(running, found[tokens], scale, schedule)
    return jnp.concatenate(codes)


def _centres(key: Array, vectors: Array, clusters: int) -> Array:
    """Centres of a sample of the vectors."""
    sample, draw = jax.random.split(key)
    count = min(len(vectors), VECTORS_PER_CODE * clusters)
    chosen = jax.random.permutation(sample, len(vectors))[:count]
    return kmeans(draw, vectors[chosen], clusters)
