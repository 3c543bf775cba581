"""The table of parameters: every array of every model has its row, and all that follows from it."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from mvar_jax.array_types import path_name
from mvar_jax.config import Config, ModelConfig, SSMConfig, TextConfig
from mvar_jax.config.recipes import imagenet256
from mvar_jax.config.tree import from_config_dict
from mvar_jax.models import Trunk, build_trunk, example_inputs
from mvar_jax.models.heads import order_heads
from mvar_jax.models.parameters import (
    PARAMETERS,
    STATE_PREFIX,
    constrain_params,
    param_shardings,
    parameter,
)
from mvar_jax.networks.discriminator import Discriminator
from mvar_jax.scales import ScaleSchedule
from mvar_jax.text import FLAN_T5
from mvar_jax.text.t5 import T5
from mvar_jax.tokenizers import VQTokenizer
from mvar_jax.training.optimizer import decays, make_optimizer
from mvar_jax.training.state import create_state

AXES = ("data", "fsdp", "tensor")
ONE, POD = AbstractMesh((1, 1, 1), AXES), AbstractMesh((2, 8, 4), AXES)
LARGE = 2**20  # numbers
HEADS = 7  # no other dimension of the small trunks has this size
PATTERNS = (
    ("history",),
    ("scale",),
    ("scale+ssm",),
    ("history+ssm",),
    ("scale", "history"),
    ("scale+ssm", "history"),
    ("scale+ssm", "history+ssm"),
)

WHOLE = ()
BOTH = ("fsdp", "tensor")
# Of the trunk: the mesh axes of every dimension, whether it is decayed, the dimension of heads.
EXPECTED = {
    "blocks_0/attention/out/bias": (WHOLE, False, None),
    "blocks_0/attention/out/kernel": ((None, "tensor", None, "fsdp"), True, 1),
    "blocks_0/attention/qkv": ((None, "fsdp", None, "tensor", None), True, 3),
    "blocks_0/attention/query_bias": (WHOLE, False, 1),
    "blocks_0/attention/query_scale": (WHOLE, False, 1),
    "blocks_0/attention/value_bias": (WHOLE, False, 1),
    "blocks_0/ffn/down/bias": (WHOLE, False, None),
    "blocks_0/ffn/down/kernel": ((None, "tensor", "fsdp"), True, None),
    "blocks_0/ffn/up/bias": (WHOLE, False, None),
    "blocks_0/ffn/up/kernel": ((None, "fsdp", "tensor"), True, None),
    "blocks_0/modulation/bias": (WHOLE, False, None),
    "blocks_0/modulation/kernel": ((None, None, None, BOTH), True, None),
    "blocks_0/modulation_offset": (WHOLE, False, None),
    "blocks_0/ssm/A_log": (WHOLE, False, None),
    "blocks_0/ssm/D": (WHOLE, False, None),
    "blocks_0/ssm/conv_bc/bias": (WHOLE, False, None),
    "blocks_0/ssm/conv_bc/kernel": (WHOLE, True, None),
    "blocks_0/ssm/conv_x/bias": (WHOLE, False, None),
    "blocks_0/ssm/conv_x/kernel": (WHOLE, True, None),
    "blocks_0/ssm/dt_bias": (WHOLE, False, None),
    "blocks_0/ssm/in_bc/kernel": ((None, "fsdp", None, None), True, None),
    "blocks_0/ssm/in_dt/kernel": ((None, "fsdp", "tensor"), True, None),
    "blocks_0/ssm/in_zx/kernel": ((None, "fsdp", None, "tensor", None), True, None),
    "blocks_0/ssm/norm_scale": (WHOLE, False, None),
    "blocks_0/ssm/out/kernel": ((None, "tensor", None, "fsdp"), True, None),
    "class_embedding": ((None, "fsdp"), True, None),
    "head/bias": (WHOLE, False, None),
    "head/kernel": (("fsdp", "tensor"), True, None),
    "head_modulation/bias": (WHOLE, False, None),
    "head_modulation/kernel": ((None, None, BOTH), True, None),
    "level_embedding": (WHOLE, False, None),
    "position_embedding": ((None, "fsdp"), False, None),
    "shared_modulation/bias": (WHOLE, False, None),
    "shared_modulation/kernel": ((None, None, BOTH), True, None),
    "start_position": (WHOLE, False, None),
    "word_embedding/bias": (WHOLE, False, None),
    "word_embedding/kernel": ((None, "fsdp"), True, None),
}
# The same of what a trunk has for texts.
TEXTS = {
    "blocks_0/cross_attention/key_value/kernel": ((None, "fsdp", None, "tensor", None), True, None),
    "blocks_0/cross_attention/out/bias": (WHOLE, False, None),
    "blocks_0/cross_attention/out/kernel": ((None, "tensor", None, "fsdp"), True, None),
    "blocks_0/cross_attention/query/bias": (WHOLE, False, None),
    "blocks_0/cross_attention/query/kernel": ((None, "fsdp", "tensor", None), True, None),
    "blocks_0/cross_attention/value_bias": (WHOLE, False, None),
    "blocks_0/cross_norm/bias": (WHOLE, False, None),
    "blocks_0/cross_norm/scale": (WHOLE, False, None),
    "text/down/bias": (WHOLE, False, None),
    "text/down/kernel": (("tensor", "fsdp"), True, None),
    "text/norm_scale": (WHOLE, False, None),
    "text/null_features": (WHOLE, False, None),
    "text/pool/key_value/kernel": (("fsdp", None, "tensor", None), True, None),
    "text/pool/out/bias": (WHOLE, False, None),
    "text/pool/out/kernel": (("tensor", None, "fsdp"), True, None),
    "text/pool/query": (WHOLE, False, None),
    "text/pool/value_bias": (WHOLE, False, None),
    "text/up/bias": (WHOLE, False, None),
    "text/up/kernel": (("fsdp", "tensor"), True, None),
}
# The same of the text encoder, whose heads no policy reorders.
TEXT = {
    "final_norm/scale": (WHOLE, False, None),
    "layers/attention/key": ((None, "fsdp", "tensor"), True, None),
    "layers/attention/out": ((None, "tensor", None, "fsdp"), True, None),
    "layers/attention/query": ((None, "fsdp", "tensor"), True, None),
    "layers/attention/value": ((None, "fsdp", "tensor"), True, None),
    "layers/attention_norm/scale": (WHOLE, False, None),
    "layers/ffn/down": ((None, "tensor", "fsdp"), True, None),
    "layers/ffn/gate": ((None, "fsdp", "tensor"), True, None),
    "layers/ffn/up": ((None, "fsdp", "tensor"), True, None),
    "layers/ffn_norm/scale": (WHOLE, False, None),
    "position_bias": (WHOLE, True, None),
    "token_embedding": ((None, "fsdp"), True, None),
}


@functools.cache
def shapes_of(trunk):
    return jax.eval_shape(trunk.init, jax.random.key(0), *example_inputs(trunk))["params"]


def small_trunk(pattern, shared=False, qk_norm=True):
    """A trunk of two repetitions with seven heads of five channels."""
    config = ModelConfig(
        num_classes=10,
        depth=2 * len(pattern),
        width=5 * HEADS,
        heads=HEADS,
        pattern=pattern,
        shared_modulation=shared,
        qk_norm=qk_norm,
        ssm=SSMConfig(state_size=4, head_dim=14),
    )
    return Trunk(config, ScaleSchedule.squares(1, 2), 16, 4)


def text_trunk():
    """A small trunk that is conditioned on texts."""
    config = ModelConfig(
        condition="text",
        text=TextConfig(16, 8),
        depth=1,
        width=16,
        heads=2,
        pattern=("history+text",),
        positions="rotary",
    )
    return Trunk(config, ScaleSchedule.squares(1, 2), 16, 4)


def large_trunk(pattern, **changes):
    """A trunk of two layers with large matrices."""
    config = imagenet256("d16", pattern, (16,), file="own.py")
    config.model.update(depth=2, **changes)
    return build_trunk(from_config_dict(config))


def tokenizer_shapes():
    images = jnp.zeros((1, 256, 256, 3))
    return jax.eval_shape(VQTokenizer(Config().tokenizer).init, jax.random.key(0), images)["params"]


def discriminator_shapes():
    network, images = Discriminator(64, 3), jnp.zeros((1, 64, 64, 3))
    return {"discriminator": jax.eval_shape(network.init, jax.random.key(0), images)["params"]}


def text_shapes(config):
    inputs = jnp.zeros((1, 16), jnp.int32), jnp.ones((1, 16), bool)
    return jax.eval_shape(T5(config).init, jax.random.key(0), *inputs)["params"]


def trunks():
    """Arguments of small trunks of all patterns, with and without what a block may have."""
    for pattern, shared, qk_norm in itertools.product(PATTERNS, (False, True), (False, True)):
        if not shared or len({"ssm" in kind for kind in pattern}) == 1:
            yield pattern, shared, qk_norm


def leaves(tree):
    """Path to array."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def specs(tree, mesh=POD):
    """Path to (shape, spec filled up with None) of every array."""
    shardings = leaves(param_shardings(tree, mesh))
    return {
        name: (leaf.shape, (*spec, *(None,) * (leaf.ndim - len(spec))))
        for name, leaf in leaves(tree).items()
        for spec in [shardings[name].spec]
    }


def test_sharding_and_decay_of_a_trunk_of_texts():
    shapes = shapes_of(text_trunk())
    shardings, decayed = leaves(param_shardings(shapes, ONE)), leaves(decays(shapes))
    for name, expected in TEXTS.items():
        found = (tuple(shardings[name].spec), decayed[name], parameter(name).heads)
        assert found == expected, name
    rest = set(leaves(shapes)) - set(TEXTS)
    assert rest <= set(EXPECTED)


@pytest.mark.parametrize("pattern, shared, qk_norm", trunks())
def test_sharding_decay_and_heads_of_every_trunk(pattern, shared, qk_norm):
    shapes = shapes_of(small_trunk(pattern, shared, qk_norm))
    shardings, decayed = leaves(param_shardings(shapes, ONE)), leaves(decays(shapes))
    for name, leaf in leaves(shapes).items():
        expected = EXPECTED[re.sub(r"blocks_\d+", "blocks_0", name)]
        found = (tuple(shardings[name].spec), decayed[name], parameter(name).heads)
        assert found == expected, name
        assert len(expected[0]) in (0, leaf.ndim), name


def test_sharding_decay_and_heads_of_the_tokenizer():
    shapes = tokenizer_shapes()
    shardings, decayed = leaves(param_shardings(shapes, ONE)), leaves(decays(shapes))
    for name in leaves(shapes):
        assert tuple(shardings[name].spec) == () and parameter(name).heads is None
        assert decayed[name] == name.endswith(("/kernel", "/codebook")), name


@pytest.mark.parametrize("size", FLAN_T5)
def test_sharding_and_decay_of_the_text_encoder(size):
    shapes = text_shapes(FLAN_T5[size])
    shardings, decayed = leaves(param_shardings(shapes, ONE)), leaves(decays(shapes))
    found = {
        name: (tuple(shardings[name].spec), decayed[name], parameter(name).heads)
        for name in leaves(shapes)
    }
    assert found == TEXT
    if size != "small":  # six heads do not divide
        assert all(spec[0] is None for _, spec in specs(shapes).values())


@pytest.mark.parametrize("pattern, shared, qk_norm", trunks())
def test_all_that_heads_of_attention_own_is_reordered(pattern, shared, qk_norm):
    for name, leaf in leaves(shapes_of(small_trunk(pattern, shared, qk_norm))).items():
        if "/attention/" in name:
            own = [axis for axis, size in enumerate(leaf.shape) if size == HEADS]
            heads = parameter(name).heads
            assert own == ([] if heads is None else [heads]), name


def test_sharding_and_decay_of_the_discriminator():
    shapes = discriminator_shapes()
    shardings, decayed = leaves(param_shardings(shapes, ONE)), leaves(decays(shapes))
    for name in leaves(shapes):
        assert tuple(shardings[name].spec) == () and parameter(name).heads is None
        assert decayed[name] == name.endswith("/kernel"), name


def test_what_else_a_state_keeps_lies_as_its_parameters():
    optimizer = make_optimizer(Config().optimizer, 10, 8)
    params = {"head": {"kernel": jnp.zeros((16, 64))}}

    def extra():
        numbers = {"real": jnp.zeros([])}
        return {"one": {"params": params, "opt_state": optimizer.init(params), "numbers": numbers}}

    found = specs(jax.eval_shape(lambda: create_state(params, optimizer, 0.0, extra)))
    own = {name: spec for name, (_, spec) in found.items() if name.startswith("extra/one/")}
    kernels = {spec for name, spec in own.items() if name.endswith("head/kernel")}
    assert len(own) > 4 and kernels == {("fsdp", "tensor")}
    assert own["extra/one/numbers/real"] == ()
    with pytest.raises(ValueError, match="extra/one/params/temperature matches 0 rows"):
        param_shardings({"extra": {"one": {"params": {"temperature": jnp.zeros(())}}}}, POD)


def test_every_row_is_of_some_parameter():
    names = {*leaves(tokenizer_shapes()), *leaves(text_shapes(FLAN_T5["small"]))}
    names |= {*leaves(discriminator_shapes())}
    for arguments in (("scale+ssm",),), (("history",), True):
        names |= {*leaves(shapes_of(small_trunk(*arguments)))}
    names |= {*leaves(shapes_of(text_trunk()))}
    for row in PARAMETERS:
        assert any(re.fullmatch(row.path, name) for name in names), row.path


@pytest.mark.parametrize(
    "path",
    [
        "blocks_0/attention/key_bias",
        "blocks_0/attention/qkv/kernel",
        "blocks_0/new",
        "head/scale",
        "text/head/kernel",  # no parameter is known by the end of its name
        "encoder/kernel",
        "quantizer/residual_0/scale",
    ],
)
def test_an_unknown_parameter_is_an_error_everywhere(path):
    trunk, value = small_trunk(("history",)), jnp.zeros((2, HEADS))
    tree = {}
    for name in reversed(path.split("/")):
        tree = {name: tree or value}
    order = [list(range(HEADS))] * 2
    for ask in (
        lambda: param_shardings(tree, POD),
        lambda: param_shardings({"params": tree}, POD),
        lambda: decays(tree),
        lambda: make_optimizer(Config().optimizer, 10, 8).init(tree),
        lambda: order_heads(tree, trunk, order),
    ):
        with pytest.raises(ValueError, match=rf"{path} matches 0 rows of .*PARAMETERS, expected"):
            ask()


def test_a_number_that_is_a_parameter_must_be_known():
    for value in (jnp.zeros(()), jnp.zeros(3, jnp.int32)):
        with pytest.raises(ValueError, match="temperature matches 0 rows"):
            param_shardings({"params": {"temperature": value}}, POD)


@pytest.mark.parametrize(
    "pattern, changes",
    [
        (("scale+ssm",), {}),
        (("scale+ssm", "history"), {}),
        (("history",), {"shared_modulation": True}),
    ],
    ids=["mvar", "mixed", "shared"],
)
def test_large_parameters_are_split_and_layers_are_not(pattern, changes):
    found = specs(shapes_of(large_trunk(pattern, **changes)))
    for name, (shape, spec) in found.items():
        assert not name.startswith("blocks_") or spec[0] is None, name
        rest = np.prod(shape[1:]) if name.startswith("blocks_") else np.prod(shape)
        assert rest < LARGE or "fsdp" in str(spec), (name, shape)
    modulation = [spec for name, (_, spec) in found.items() if "modulation/kernel" in name]
    assert modulation and all(spec[-1] == ("fsdp", "tensor") for spec in modulation)


def test_optimizer_and_average_lie_as_their_parameter():
    shapes = shapes_of(large_trunk(("scale+ssm",)))
    optimizer = make_optimizer(Config().optimizer, 10, 8)
    found = specs(jax.eval_shape(lambda params: create_state(params, optimizer, 0.9), shapes))
    for name, expected in specs(shapes).items():
        same = {other for other in found if other.endswith(f"/{name}")}
        assert {f"params/{name}", f"average/{name}"} < same
        same = {other for other in same if re.fullmatch(f"{STATE_PREFIX}{name}", other)}
        assert len(same) == 4  # itself, two moments, the average
        assert {found.pop(other) for other in same} == {expected}
    assert {"step", "skipped"} < set(found)
    assert all(set(spec) <= {None} for _, spec in found.values())  # counts and rates


def test_a_dimension_that_does_not_divide_is_named():
    tree = {"params": {"head": {"kernel": jax.ShapeDtypeStruct((12, 64), jnp.float32)}}}
    expected = r"split 12 into 8 \(fsdp\) in params/head/kernel of shape \(12, 64\) .*fsdp=8"
    with pytest.raises(ValueError, match=expected):
        param_shardings(tree, POD)


def test_without_a_mesh_nothing_is_constrained():
    tree = {"nothing": jnp.ones(3)}
    assert constrain_params(tree) is tree
