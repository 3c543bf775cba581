"""The trunk's two forms agree, for every kind of block; its layout and size are as stated."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.array_types import batch_size
from mvar_jax.cache import memory_bytes
from mvar_jax.config import ModelConfig, SSMConfig
from mvar_jax.config.recipes import imagenet256
from mvar_jax.config.tree import from_config_dict
from mvar_jax.convert.trunk_names import trunk_entries
from mvar_jax.models import ClassLabels, Trunk, build_trunk, example_inputs
from mvar_jax.scales import ScaleSchedule
from tests.models.weights import PATTERNS, trunk_config
from tests.reference import GOLDEN

SCHEDULE = ScaleSchedule(((1, 1), (2, 3), (3, 4)))
VOCABULARY, CODE = 16, 4
MIXERS = (("scale+ssm",), ("history",), ("scale",), ("history+ssm",), ("scale+ssm", "history"))


def tiny(pattern, schedule=SCHEDULE, **changes):
    ssm = SSMConfig(state_size=8, head_dim=8, chunk=5)
    sizes = {"num_classes": 3, "depth": 2, "width": 16, "heads": 2, "ssm": ssm}
    config = ModelConfig(pattern=pattern, **sizes | changes)
    return Trunk(config, schedule, VOCABULARY, CODE)


def random_params(trunk, seed=0):
    """Parameters that leave no branch near zero, as the start of training does."""
    labels, inputs = example_inputs(trunk)
    shapes = jax.eval_shape(trunk.init, jax.random.key(0), labels, inputs)["params"]
    rng = np.random.default_rng(seed)  # JAX would compile a program for every shape

    def draw(leaf):
        return jnp.asarray(0.5 * rng.standard_normal(leaf.shape, dtype=np.float32))

    return jax.tree.map(draw, shapes)


def example(trunk, batch=2):
    rng = np.random.default_rng(0)
    length = trunk.schedule.total - trunk.schedule.lengths[0]
    inputs = rng.standard_normal((batch, length, trunk.code_channels)).astype(np.float32)
    return ClassLabels(jnp.arange(batch, dtype=jnp.int32)), jnp.asarray(inputs)


def decode(trunk, params, condition, inputs, schedule=None):
    """Logits of all scales, decoded one by one, and the bytes carried after each."""
    bound, schedule = trunk.bind({"params": params}), schedule or trunk.schedule
    conditioning = bound.prepare(condition)
    memory = bound.empty_memory(batch_size(condition), schedule=schedule)
    logits, carried, first = [], [], schedule.lengths[0]
    for scale, place in enumerate(schedule.slices):
        own = None if scale == 0 else inputs[:, place.start - first : place.stop - first]
        result, memory = bound.decode_scale(conditioning, own, scale, memory, schedule=schedule)
        logits.append(result)
        carried.append(memory_bytes(memory))
    return jnp.concatenate(logits, axis=1), carried


@pytest.mark.parametrize(
    ("pattern", "scan"),
    [
        *((pattern, False) for pattern in MIXERS),
        (("scale+ssm", "history"), True),
        *(pytest.param(pattern, True, marks=pytest.mark.slow) for pattern in MIXERS[:-1]),
    ],
    ids=str,
)
def test_scale_by_scale_equals_teacher_forced(pattern, scan):
    trunk = tiny(pattern, scan=scan)
    params = random_params(trunk)
    labels, inputs = example(trunk)
    expected = jax.jit(trunk.apply)({"params": params}, labels, inputs)
    actual, _ = jax.jit(lambda params: decode(trunk, params, labels, inputs))(params)
    largest = float(jnp.abs(expected).max())
    assert expected.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * largest)


def test_carried_bytes_do_not_grow_with_the_number_of_scales():
    def carried(schedule):
        trunk = tiny(("scale+ssm",), schedule)
        shapes = jax.eval_shape(lambda: random_params(trunk))
        labels, inputs = example(trunk)
        sizes = []

        def run(params):
            sizes.extend(decode(trunk, params, labels, inputs)[1])

        jax.eval_shape(run, shapes)
        return set(sizes)

    few, many = carried(SCHEDULE), carried(ScaleSchedule.squares(1, 2, 3, 4, 6, 8))
    assert few == many and len(few) == 1


def test_a_token_sees_only_what_its_kind_reaches():
    """Changing scale 1 changes scale 2 through history or state, and not without them."""
    for pattern, reaches in ((("scale",), False), (("history",), True), (("scale+ssm",), True)):
        trunk = tiny(pattern)
        params = random_params(trunk)
        labels, inputs = example(trunk)
        apply = jax.jit(trunk.apply)
        before = apply({"params": params}, labels, inputs)
        after = apply({"params": params}, labels, inputs.at[:, :6].add(1.0))
        last = trunk.schedule.slices[2]
        assert bool(jnp.any(before[:, last] != after[:, last])) == reaches
        np.testing.assert_array_equal(before[:, :1], after[:, :1])  # nothing looks ahead


@pytest.mark.parametrize("pattern", [("scale+ssm",), ("scale+ssm", "history")], ids="/".join)
def test_layout_does_not_depend_on_how_layers_run(pattern):
    trees = []
    for changes in ({}, {"scan": False}, {"remat": "full"}, {"remat": "full", "scan": False}):
        trunk = tiny(pattern, **changes)
        shapes = jax.eval_shape(lambda trunk=trunk: random_params(trunk))
        trees.append(jax.tree.map(lambda leaf: leaf.shape, shapes))
    assert all(tree == trees[0] for tree in trees)


def test_scan_remat_and_loop_agree_in_value_and_gradient():
    results = []
    for changes in ({}, {"scan": False}, {"remat": "full"}, {"remat": "products"}):
        trunk = tiny(("scale+ssm",), drop_path_rate=0.5, **changes)
        params = random_params(trunk)
        labels, inputs = example(trunk)

        def loss(params, trunk=trunk, labels=labels, inputs=inputs):
            keys = jax.random.split(jax.random.key(1), batch_size(labels))
            logits = trunk.apply({"params": params}, labels, inputs, keys)
            return jnp.mean(logits**2)

        results.append(jax.jit(jax.value_and_grad(loss))(params))
    for value, gradients in results[1:]:
        np.testing.assert_allclose(value, results[0][0], rtol=1e-5)
        for actual, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(results[0][1])):
            scale = float(jnp.abs(expected).max()) + 1e-6
            np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * scale)


def test_products_of_weights_and_attention_are_not_computed_again():
    def computed(remat):
        trunk = tiny(("history",), remat=remat)
        labels, inputs = example(trunk)

        def loss(params):
            return jnp.sum(trunk.apply({"params": params}, labels, inputs))

        jaxpr = str(jax.make_jaxpr(jax.grad(loss))(random_params(trunk)))
        return jaxpr.count("reduce_max"), jaxpr.count("dot_general")

    (softmaxes, products), (again, more) = computed("products"), computed("full")
    assert again == 2 * softmaxes > 0
    assert more > products


def test_kernels_change_no_number():
    results = []
    for kernels in ("xla", "pallas_tpu"):
        sizes = {"width": 128, "heads": 2, "ssm": SSMConfig(state_size=8, head_dim=64)}
        trunk = tiny(("scale+ssm", "history"), kernels=kernels, remat="full", **sizes)
        # At this width, weights as large as elsewhere here would blow activations up.
        params = jax.tree.map(lambda array: 0.2 * array, random_params(trunk))
        labels, inputs = example(trunk)

        def loss(params, trunk=trunk, labels=labels, inputs=inputs):
            return jnp.mean(trunk.apply({"params": params}, labels, inputs) ** 2)

        results.append(jax.jit(jax.value_and_grad(loss))(params))
    for actual, expected in zip(*map(jax.tree.leaves, reversed(results)), strict=True):
        scale = float(jnp.abs(expected).max()) + 1e-6
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * scale)


def test_training_drops_classes_and_paths():
    labels, inputs = example(tiny(("scale",)), batch=2)
    unconditional = ClassLabels(jnp.full_like(labels.label, 3))

    def logits(labels, seed, train=True, **changes):
        trunk = tiny(("scale",), **changes)
        keys = jax.random.split(jax.random.key(seed), batch_size(labels)) if train else None
        return trunk.apply({"params": random_params(trunk)}, labels, inputs, keys)

    np.testing.assert_allclose(
        logits(labels, 0, class_drop_rate=0.999), logits(unconditional, 0), rtol=1e-5, atol=1e-5
    )
    dropped = [logits(labels, seed, drop_path_rate=0.9, class_drop_rate=0.0) for seed in range(8)]
    assert any(jnp.any(dropped[0] != other) for other in dropped[1:])
    evaluated = [logits(labels, seed, train=False, drop_path_rate=0.9) for seed in (0, 1)]
    np.testing.assert_array_equal(*evaluated)


def test_bfloat16_stays_near_float32_and_returns_float32():
    exact, coarse = tiny(("scale+ssm",)), tiny(("scale+ssm",), compute_dtype="bfloat16")
    params = random_params(exact)
    labels, inputs = example(exact)
    expected = jax.jit(exact.apply)({"params": params}, labels, inputs)
    actual = jax.jit(coarse.apply)({"params": params}, labels, inputs)
    assert actual.dtype == jnp.float32
    assert float(jnp.abs(actual - expected).max() / jnp.abs(expected).max()) < 0.1
    memory = jax.eval_shape(lambda: coarse.bind({"params": params}).empty_memory(1))
    assert memory[0].layers[0].ssm.state.dtype == jnp.float32
    assert memory[0].layers[0].ssm.tail_x.dtype == jnp.bfloat16


MANIFESTS = json.loads((GOLDEN / "manifests.json").read_text())


@pytest.mark.parametrize("name", MANIFESTS)
def test_official_models_map_one_to_one(name):
    """Shapes only: every official parameter has its place here, and nothing is left over."""
    about = MANIFESTS[name]
    trunk = Trunk(
        trunk_config(about),
        ScaleSchedule.squares(*about["patch_nums"]),
        about["vocab_size"],
        about["z_channels"],
    )
    params = jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == about["num_parameters"]

    entries = trunk_entries(trunk)
    official = {entry.official: list(entry.official_shape) for entry in entries}
    expected = {
        name.replace("blocks.0.", f"blocks.{i}."): shape
        for name, shape in about["shapes"].items()
        for i in range(about["depth"] if name.startswith("blocks.") else 1)
    }
    assert official == expected
    ours = {}
    for entry in entries:
        ours.setdefault(entry.path, []).append(entry)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    assert len(leaves) == len(ours)
    for path, leaf in leaves:
        found = ours[tuple(key.key for key in path)]
        stacked = () if found[0].layer is None else (len(found),)
        assert leaf.shape == (*stacked, *found[0].shape)


@pytest.mark.parametrize(
    ("pattern", "depths"),
    [(("scale+ssm",), (12, 16, 20, 24, 30, 32)), (("history",), (16, 20, 24, 30))],
    ids=["mvar", "var"],
)
def test_recipes_have_the_published_number_of_parameters(pattern, depths, file="own.py"):
    kind = {names: kind for kind, names in PATTERNS.items()}[pattern]
    for depth in depths:
        config = from_config_dict(imagenet256(f"d{depth}", pattern, depths, file="own.py"))
        trunk = build_trunk(config)
        params = jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk))
        published = MANIFESTS[f"{kind}_d{depth}"]["num_parameters"]
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == published
