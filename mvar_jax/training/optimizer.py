"""AdamW as VAR trains with it: clipped gradients, scheduled rates, decay for some parameters."""

import jax
import optax

from mvar_jax.array_types import Array, Params, PyTree, path_name
from mvar_jax.config import OptimizerConfig
from mvar_jax.models.parameters import parameter
from mvar_jax.training.schedules import learning_rate_schedule, weight_decay_schedule


def make_optimizer(
    config: OptimizerConfig, total_steps: int, batch_size: int
) -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW with scheduled learning rate and weight decay.

    The decay is decoupled, scaled by the learning rate, and applied where `decays` is true. The
    peak learning rate is `config.learning_rate * batch_size / 256`. The state is a pytree of
    arrays; `current_learning_rate` reads the last rate from it. Raises ValueError if `total_steps`
    is less than 1.
    """
    scheduled_adamw = optax.inject_hyperparams(
        optax.adamw, static_args=("b1", "b2", "eps", "eps_root", "mask")
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        scheduled_adamw(
            learning_rate=learning_rate_schedule(config, total_steps, batch_size),
            b1=config.beta1,
            b2=config.beta2,
            eps=1e-8,
            weight_decay=weight_decay_schedule(config, total_steps),
            mask=decays,
        ),
    )


def decays(params: Params) -> PyTree:
    """Which parameters are decayed: the same tree with a bool per array.

    It follows the table of parameters: the class embedding and convolutions are decayed; biases,
    scales, position and level embeddings are not. Raises ValueError for a parameter that has no row
    in it.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: parameter(path_name(path)).decayed, params
    )


def current_learning_rate(opt_state: PyTree) -> Array:
    """The learning rate of the last update of an optimizer state of `make_optimizer`."""
    _clipping, adamw = opt_state
    return adamw.hyperparams["learning_rate"]
