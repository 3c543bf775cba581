"""Gradient accumulation: a batch in parts, one after another, with the result of the whole."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from einops import rearrange

from mvar_jax.array_types import Array, Params, PyTree
from mvar_jax.models.parameters import constrain_params

Result = TypeVar("Result")


def accumulated_gradients(
    loss: Callable[[Params, PyTree], tuple[Array, PyTree]], batch: PyTree, parts: int
) -> Callable[[Params], tuple[Params, PyTree]]:
    """The gradients of `loss(params, batch) -> (loss, metrics)`, computed in `parts` parts.

    Loss and metrics must be means over the batch, which is the first axis of all its arrays;
    `parts` must divide it. Returns `gradient(params) -> (gradients, metrics)` of the whole batch.
    The gradients are sharded over the ambient mesh like parameters, and summed in their dtype.
    """
    gradient = jax.grad(loss, has_aux=True)

    def of(params: Params, rows: PyTree) -> tuple[Params, PyTree]:
        gradients, metrics = gradient(params, rows)
        return constrain_params(gradients), metrics

    return lambda params: mean_over_parts(partial(of, params), batch, parts)


def mean_over_parts(of: Callable[[PyTree], Result], batch: PyTree, parts: int) -> Result:
    """The mean over the parts of a batch of `of(rows)`, a tree of arrays, summed in their dtype.

    `parts` must divide the first axis of all arrays of the batch.
    """
    if parts == 1:
        return of(batch)

    def add(total, rows):
        return jax.tree.map(jnp.add, total, of(rows)), None

    split = jax.tree.map(lambda array: _split(array, parts), batch)
    first = jax.tree.map(lambda array: array[0], split)
    nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(of, first))
    total = jax.lax.scan(add, nothing, split)[0]
    return jax.tree.map(lambda array: array / parts, total)


def _split(array: Array, parts: int) -> Array:
    """`[parts, rows, ...]`; a part has every `parts`-th row, so that it is on all devices."""
    return rearrange(array, "(rows parts) ... -> parts rows ...", parts=parts)
