"""What training carries from step to step."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from mvar_jax.typing import Params, PyTree


@flax.struct.dataclass
class TrainState:
    """The number of updates made, the parameters, the optimizer's memory and the average.

    Trees of arrays, or of what stands for arrays: shapes, shardings.
    """

    step: PyTree  # int32 scalar
    params: Params
    opt_state: PyTree
    average: Params | None  # moving average of the parameters, None where none is kept

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
        opt_state=optimizer.init(params),
        # A copy: the step donates its state, and a buffer can be donated only once.
        average=jax.tree.map(jnp.copy, params) if ema_decay else None,
    )


def apply_gradients(
    state: TrainState,
    gradients: Params,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.0,
) -> TrainState:
    """The state after one more update; the average moves by `1 - ema_decay` of the difference."""
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
        average = optax.incremental_update(params, average, step_size=1 - ema_decay)
    return TrainState(state.step + 1, params, opt_state, average)
