"""The training state, and its updates."""

from collections.abc import Callable
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
import optax

from mvar_jax.array_types import Array, Bool, Params, PyTree, path_name
from mvar_jax.checks import check
from mvar_jax.training.placement import create_placed, with_shardings


@flax.struct.dataclass
class TrainState:
    """The step, the parameters, the optimizer's state, the average of the parameters, and more.

    Leaves are arrays, or shapes or shardings in their place.
    """

    step: PyTree  # int32 scalar, including skipped steps
    params: Params
    opt_state: PyTree
    average: PyTree  # moving average of the parameters, or None
    skipped: PyTree  # int32 [2]: skipped steps, in total and in a row up to this step
    extra: PyTree = None  # what else a training keeps, by name, as a discriminator

    @property
    def sampling_params(self) -> Params:
        """The parameters to evaluate and sample with: the average if there is one."""
        return self.params if self.average is None else self.average


def nothing() -> PyTree:
    """What a training keeps besides that needs nothing more."""
    return None


def create_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.0,
    make_extra: Callable[[], PyTree] = nothing,
) -> TrainState:
    """The state before the first update; with an `ema_decay` of 0 no average is kept.

    `make_extra` creates what else is kept.
    """
    return TrainState(
        step=jnp.zeros([], jnp.int32),
        params=params,
        opt_state=jax.jit(optimizer.init)(params),  # one program instead of one per shape
        # A copy: the step donates its state, and a buffer can be donated only once.
        average=jax.jit(_copy)(params) if ema_decay else None,
        skipped=jnp.zeros([2], jnp.int32),
        extra=make_extra(),
    )


def _copy(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, tree)


def new_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    make_extra: Callable[[], PyTree] = nothing,
) -> TrainState:
    """The state before the first update; donates `params`.

    Raises ValueError for parameters that are not float32, such as those of a loaded model that
    computes in bfloat16: updates would be rounded away.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        check(
            leaf.dtype == jnp.float32,
            f"params: got {path_name(path)} in {leaf.dtype}, expected float32, as "
            "training.weights.load_trunk reads it.",
        )
    make = partial(create_state, optimizer=optimizer, ema_decay=ema_decay, make_extra=make_extra)
    return create_placed(make, params)


def state_shapes(
    params: PyTree,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    make_extra: Callable[[], PyTree] = nothing,
) -> TrainState:
    """The shapes of that state, from shapes of parameters, with their shardings."""
    make = partial(create_state, optimizer=optimizer, ema_decay=ema_decay, make_extra=make_extra)
    return with_shardings(jax.eval_shape(make, params))


def apply_gradients(
    state: TrainState,
    gradients: Params,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float = 0.0,
    finite: Bool[Array, ""] | bool = True,
    extra: PyTree = None,
) -> TrainState:
    """The state after one update; the average moves by `1 - ema_decay` of the difference.

    `extra` replaces what else is kept, if it is given.
    Unless `finite` the update is skipped: only the step and the counts of skipped steps change.
    """
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
        average = optax.incremental_update(params, average, step_size=1 - ema_decay)

    def choose(new, old):  # elementwise, so that XLA fuses it into the update
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

    return TrainState(
        step=state.step + 1,
        params=choose(params, state.params),
        opt_state=choose(opt_state, state.opt_state),
        average=choose(average, state.average),
        skipped=choose(state.skipped * jnp.array([1, 0], jnp.int32), state.skipped + 1),
        extra=state.extra if extra is None else choose(extra, state.extra),
    )
