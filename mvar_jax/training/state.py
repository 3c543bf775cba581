"""What training carries from step to step."""

from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
import optax

from mvar_jax.array_types import Array, Bool, Params, PyTree
from mvar_jax.training.placement import create_placed, with_shardings


@flax.struct.dataclass
class TrainState:
    """The number of steps made, the parameters, the optimizer's memory and the average.

    Trees of arrays, or of what stands for arrays: shapes, shardings.
    """

    step: PyTree  # int32 scalar, steps that were skipped counted
    params: Params
    opt_state: PyTree
    average: PyTree  # moving average of the parameters, None where none is kept
    skipped: PyTree  # int32 [2]: steps without an update, in total and in a row up to now

    @property
    def sampling_params(self) -> Params:
        """The parameters to evaluate and sample with: the average where one is kept."""
        return self.params if self.average is None else self.average


def create_state(
    params: Params, optimizer: optax.GradientTransformation, ema_decay: float = 0.0
) -> TrainState:
    """The state before the first update; with an `ema_decay` of 0 no average is kept."""
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        opt_state=jax.jit(optimizer.init)(params),  # one program instead of one per shape
        # A copy: the step donates its state, and a buffer can be donated only once.
        average=jax.jit(_copy)(params) if ema_decay else None,
        skipped=jnp.zeros([2], jnp.int32),
    )


def _copy(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, tree)


def new_state(
    params: Params, optimizer: optax.GradientTransformation, ema_decay: float
) -> TrainState:
    """The state before the first update, which takes over the memory of `params`."""
    return create_placed(partial(create_state, optimizer=optimizer, ema_decay=ema_decay), params)


def state_shapes(
    params: PyTree, optimizer: optax.GradientTransformation, ema_decay: float
) -> TrainState:
    """The shapes of that state, of shapes of parameters, with the devices they belong on."""
    make = partial(create_state, optimizer=optimizer, ema_decay=ema_decay)
    return with_shardings(jax.eval_shape(make, params))


def apply_gradients(
    state: TrainState,
    gradients: Params,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float = 0.0,
    finite: Bool[Array, ""] | bool = True,
) -> TrainState:
    """The state after one more step; the average moves by `1 - ema_decay` of the difference.

    Unless `finite` the step is skipped: it counts, and all else stays as it was.
    """
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
        average = optax.incremental_update(params, average, step_size=1 - ema_decay)

    def choose(new, old):  # elementwise, so that XLA makes it part of the update itself
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

    return TrainState(
        step=state.step + 1,
        params=choose(params, state.params),
        opt_state=choose(opt_state, state.opt_state),
        average=choose(average, state.average),
        skipped=choose(state.skipped * jnp.array([1, 0], jnp.int32), state.skipped + 1),
    )
