"""One of several processes that train numbers together: `INDEX COUNT PORT DIR`."""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mvar_jax.config import TrainingConfig
from mvar_jax.data.global_batches import GlobalBatches
from mvar_jax.training.loop import Data, InitialState, Programs, Run, fit
from mvar_jax.training.state import apply_gradients, create_state
from mvar_jax.training.throughput import StepCost
from tests.training.tiny import dataset

STEPS = 400
ADAM = optax.adam(0.01)
CONFIG = TrainingConfig(steps=STEPS, log_every=1, validate_every=200, save_every=25, ema_decay=0.9)


@jax.jit
def train_step(state, batch):
    """Moves four numbers towards the mean pixel."""

    def loss(params):
        return jnp.mean((params["w"] - jnp.mean(batch["image"])) ** 2)

    value, gradients = jax.value_and_grad(loss)(state.params)
    finite = jnp.isfinite(value)
    state = apply_gradients(state, gradients, ADAM, ema_decay=0.9, finite=finite)
    norm, skipped = optax.global_norm(gradients), state.skipped
    metrics = {"loss": value, "gradient_norm": norm, "skipped": skipped[0]}
    return state, metrics | {"skipped_in_a_row": skipped[1]}


@jax.jit
def evaluate(state, batch):
    return {"loss": jnp.mean(state.average["w"] - jnp.mean(batch["image"]))}


def start(mesh):
    """A state whose parameters lie in parts on all devices."""
    state = jax.device_get(create_state({"w": jnp.arange(4.0)}, ADAM, 0.9))

    def put(array):
        spec = PartitionSpec("data") if np.ndim(array) and len(array) == 4 else PartitionSpec()
        sharding = NamedSharding(mesh, spec)
        return jax.make_array_from_callback(np.shape(array), sharding, lambda i: array[i])

    return jax.tree.map(put, jax.tree.map(np.asarray, state))


def slowly(batch):
    time.sleep(0.01)
    return batch


def validation():
    """The batches to validate on, in the memory of the host."""
    return dataset(6, 1).to_iter_dataset().batch(4)


def main(index, count, port, folder):
    if count > 1:
        jax.distributed.initialize(f"localhost:{port}", count, index)
    mesh = Mesh(np.array(jax.devices()), "data")

    def read(first):
        return dataset()[4 * first :].to_iter_dataset().batch(4).map(slowly)

    def place(batch):
        sharding = NamedSharding(mesh, PartitionSpec())
        return {
            name: jax.make_array_from_process_local_data(sharding, array)
            for name, array in batch.items()
        }

    state = start(mesh)
    fit(
        Run("toy", folder, CONFIG, STEPS, StepCost(4)),
        Programs(train_step, evaluate),
        Data(GlobalBatches(read, place), list(map(place, validation()))),
        initial=InitialState(state, lambda: state),
    )


if __name__ == "__main__":
    index, count, port, folder = sys.argv[1:]
    main(int(index), int(count), int(port), Path(folder))
