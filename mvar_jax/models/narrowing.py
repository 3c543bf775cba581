"""A trunk's parameters as sampling holds them: in the compute dtype where nothing is lost."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from mvar_jax.array_types import Params, path_name
from mvar_jax.models.parameters import parameter


def narrowed(trunk: Params, dtype: DTypeLike) -> Params:
    """The parameters with the kernels that are only used cast to the compute dtype cast already.

    What the trunk computes in that dtype stays the same to the last bit, while memory holds half of
    a float32 kernel, and every scale reads half. No dtype is widened. Raises ValueError for a
    parameter that the table of parameters does not know.
    """

    def held(path, leaf):
        narrower = jnp.dtype(dtype).itemsize < leaf.dtype.itemsize
        return leaf.astype(dtype) if narrower and parameter(path_name(path)).cast else leaf

    return jax.tree_util.tree_map_with_path(held, trunk)
