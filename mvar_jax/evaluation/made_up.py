"""Made-up arrays and statistics, for costs that depend on sizes only."""

import jax
import numpy as np

from mvar_jax.array_types import PyTree
from mvar_jax.cache import AttentionShape, Profile
from mvar_jax.scales import ScaleSchedule


def random_arrays(shapes: PyTree, spread: float) -> PyTree:
    """Normal arrays of these shapes and dtypes, with standard deviation `spread`."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    arrays = (spread * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves))
    typed = (array.astype(leaf.dtype) for array, leaf in zip(arrays, leaves))
    return jax.tree.unflatten(structure, typed)


def made_up_profile(schedule: ScaleSchedule, shape: AttentionShape) -> Profile:
    """A random profile, for plans of which only the sizes matter."""
    rng, scales = np.random.default_rng(0), len(schedule)
    return Profile(
        checksum="none",
        sizes=schedule.sizes,
        samples=1,
        head_variance=rng.random(shape, np.float32),
        mass=rng.random((*shape, scales, scales), np.float32),
        selectivity=rng.random((shape.layers, scales), np.float32),
        key_similarity=rng.random((shape.layers, scales), np.float32),
    )
