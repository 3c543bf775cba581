"""Trains the tiny trunk and tokenizer on meshes of eight devices and compares; run as a program."""

import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.sharding import NamedSharding, PartitionSpec

from mvar_jax.array_types import Params
from mvar_jax.config import AdapterConfig, MeshConfig
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.models import build_trunk
from mvar_jax.models.adapter import draw_adapter
from mvar_jax.models.parameters import param_shardings
from mvar_jax.ops.attention import attention
from mvar_jax.ops.kernels.requirements import LANES
from mvar_jax.ops.scale_attention import scale_attention
from mvar_jax.ops.ssd import ssd
from mvar_jax.training.state import new_state
from mvar_jax.training.step import Frozen, make_trunk_evaluation, make_trunk_step
from tests.training import tiny_losses
from tests.training.tiny import CONFIG, TOKENIZER, images, optimizer, tokenizer_params, trunk_params

BATCH, STEPS = 8, 5
TRUNK = build_trunk(CONFIG)


def batch(index: int, size: int = BATCH) -> dict[str, np.ndarray]:
    """One of the batches that every mesh trains on."""
    rows = [images(index * BATCH + row) for row in range(size)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def start(mesh, adapter: AdapterConfig) -> tuple[Params, Frozen]:
    """The parameters to train, a trunk or an adapter of it, and what stays as it is."""
    params, tokenizer = trunk_params(), tokenizer_params()
    params = jax.device_put(params, param_shardings(params, mesh))
    tokenizer = jax.device_put(tokenizer, param_shardings(tokenizer, mesh))
    if not adapter.rank:
        return params, Frozen(tokenizer)
    trained = draw_adapter(params, adapter, jax.random.key(0))
    trained = jax.device_put(trained, param_shardings(trained, mesh))
    return trained, Frozen(tokenizer, params, adapter.strength)


def train(layout: BatchLayout, adapter: AdapterConfig) -> tuple[list[float], list[float], str]:
    """Losses of training, metrics of validation on whole and partial batches, and the program."""
    with jax.set_mesh(layout.mesh):
        params, frozen = start(layout.mesh, adapter)
        state = new_state(params, optimizer(), CONFIG.training.ema_decay)
        step = make_trunk_step(TRUNK, TOKENIZER, optimizer(), config=CONFIG.training, seed=7)
        program = step.lower(state, layout.place(batch(0), BATCH), frozen).compile()
        losses = []
        for index in range(STEPS):
            state, metrics = program(state, layout.place(batch(index), BATCH), frozen)
            losses.append(float(metrics["loss"]))
        (check_shardings if adapter.rank else check_places)(state, layout.mesh)
        evaluate = make_trunk_evaluation(TRUNK, TOKENIZER)
        validation = [
            float(evaluate(state, layout.place(batch(0, size), size), frozen)["loss"])
            for size in (BATCH, 3)
        ]
    return losses, validation, program.as_text()


def train_with_all(layout: BatchLayout) -> list[dict[str, float]]:
    """Metrics of the tokenizer's training with all losses, of which the last has the adversary."""
    with jax.set_mesh(layout.mesh):
        params = tokenizer_params()
        params = jax.device_put(params, param_shardings(params, layout.mesh))
        decay = CONFIG.training.ema_decay
        state = new_state(params, optimizer(), decay, tiny_losses.extra)
        replicated = NamedSharding(layout.mesh, PartitionSpec())
        perceptual = jax.device_put(tiny_losses.NETWORK.params, replicated)
        placed, rows = layout.place(batch(0), BATCH), []
        later = tiny_losses.step().lower(state, placed, perceptual).compile()
        images = {shape for shape in gathered(later.as_text()) if shape[-1:] == (3,)}
        assert not images, f"images of other devices are fetched: {images}"
        for index in range(STEPS):
            placed = layout.place(batch(index), BATCH)
            program = later if index >= tiny_losses.FIRST else tiny_losses.early_step()
            state, metrics = program(state, placed, perceptual)
            rows.append({name: float(value) for name, value in metrics.items()})
        check_shardings(state, layout.mesh)
    assert "discriminator_loss" not in rows[0] and rows[-1]["discriminator_loss"] > 0
    return rows


def check_shardings(state, mesh) -> None:
    """After many steps every array still lies where the table says, its averages alike."""
    for leaf, expected in zip(
        jax.tree.leaves(state), jax.tree.leaves(param_shardings(state, mesh))
    ):
        assert leaf.sharding.is_equivalent_to(expected, leaf.ndim), (leaf.shape, leaf.sharding)


def check_places(state, mesh) -> None:
    """The same of a trunk, one of whose kernels is split over two axes."""
    check_shardings(state, mesh)
    kernel = state.params["blocks_0"]["modulation"]["kernel"]
    share = mesh.shape["fsdp"] * mesh.shape["tensor"]
    assert kernel.addressable_shards[0].data.shape[-1] * share == kernel.shape[-1]


def gathered(program: str) -> set[tuple[int, ...]]:
    """Shapes that all-gathers of a compiled program make."""
    found = re.findall(r"= \(?(?:f32|bf16)\[([\d,]*)\][^=]*? all-gather(?:-start)?\(", program)
    return {tuple(map(int, shape.split(","))) for shape in found if shape}


def check_kernels(mesh) -> None:
    """Gradients of kernels on a mesh are those without one.

    The compiler cannot split them: they run on each device's own images and heads, or on all.
    """
    for batch, groups in ((BATCH, 2), (3, 1)):
        x = jax.random.normal(jax.random.key(0), (batch, 6, groups * LANES))
        by_head = jax.random.uniform(jax.random.key(1), (batch, 6, 2 * groups))
        inputs = (x, by_head, -by_head[0, 0], x[..., :32], x[..., 32:64], by_head[0, 1])
        for implementation in ("pallas_tpu", "pallas_gpu"):
            check_kernel(partial(state_space, implementation=implementation), inputs, mesh)
            vectors = (x, x + 1, x - 1, by_head[0, 0])
            check_kernel(partial(among_scales, implementation=implementation), vectors, mesh)
        check_kernel(over_keys, vectors[:3], mesh)


def over_keys(query, key, value):
    """The kernel of some queries over all keys but one."""
    split = (
        rearrange(x, "batch n (heads dim) -> batch heads n dim", dim=64)
        for x in (query, key, value)
    )
    mask = jnp.broadcast_to(jnp.arange(6) != 3, (len(query), 6))
    return attention(*split, softmax_scale=0.1, mask=mask, implementation="pallas_gpu")


def among_scales(query, key, value, log_scale, *, implementation):
    """The kernel over two scales, with normalised queries and keys."""
    order, heads = "batch n (heads dim) -> batch heads n dim", len(log_scale)
    return scale_attention(
        *(rearrange(array, order, heads=heads) for array in (query, key, value)),
        slices=(slice(0, 2), slice(2, 6)),
        softmax_scale=1.0,
        reach="scale",
        log_scale=log_scale,
        implementation=implementation,
    )


def state_space(x, dt, decay_rate, b, c, skip, implementation):
    """A kernel, with its skip."""
    x = rearrange(x, "batch n (heads dim) -> batch n heads dim", heads=len(skip))
    options = {"skip": skip, "return_state": False, "implementation": implementation}
    return ssd(x, dt, decay_rate, b, c, **options)[0]


def check_kernel(kernel, arguments, mesh) -> None:
    """The gradients of a kernel with respect to all of its arguments."""

    def loss(arguments):
        return jnp.sum(kernel(*arguments) ** 2)

    expected = jax.jit(jax.grad(loss))(arguments)
    with jax.set_mesh(mesh):
        placed = jax.device_put(arguments, NamedSharding(mesh, PartitionSpec()))
        actual = jax.jit(jax.grad(loss))(placed)
    for own, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


def check_gathered(program: str, mesh) -> None:
    """Parameters that are split are gathered layer by layer, never as a stack of layers."""
    params = trunk_params()["blocks_0"]
    shardings = param_shardings({"blocks_0": params}, mesh)["blocks_0"]
    stacks = {
        leaf.shape
        for leaf, sharding in zip(jax.tree.leaves(params), jax.tree.leaves(shardings))
        if not sharding.is_fully_replicated
    }
    made = gathered(program)
    assert bool(made) == (mesh.shape["fsdp"] > 1), made
    assert not made & stacks, made & stacks


def main(shapes: list[str]) -> None:
    """Compares meshes, each written as 2,2,2, with one device."""
    check_kernels(make_mesh(MeshConfig(2, 2, 2)))
    one = BatchLayout(make_mesh(MeshConfig(), jax.devices()[:1]))
    kinds = (AdapterConfig(), AdapterConfig(rank=3))  # which no axis divides
    alone = [train(one, kind)[:2] for kind in kinds]
    assert alone[1][0][0] == alone[0][0][0] and alone[1][0][-1] != alone[0][0][-1]
    rows = train_with_all(one)
    for shape in shapes:
        mesh = make_mesh(MeshConfig(*map(int, shape.split(","))))
        for kind, (losses, validation) in zip(kinds, alone):
            own_losses, own_validation, program = train(BatchLayout(mesh), kind)
            np.testing.assert_allclose(own_losses, losses, rtol=1e-5)
            np.testing.assert_allclose(own_validation, validation, rtol=1e-5)
            check_gathered(program, mesh)
        for own, expected in zip(train_with_all(BatchLayout(mesh)), rows):
            for name, value in expected.items():
                np.testing.assert_allclose(own[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
        print("equal on", shape)


if __name__ == "__main__":
    main(sys.argv[1:])
