"""Which implementation of an op is picked, and what is refused."""

import inspect
import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh

from mvar_jax.config.model import KERNELS
from mvar_jax.ops import implementations
from mvar_jax.ops.attention import ATTENTION, attention
from mvar_jax.ops.implementations import Implementation, Op, platform
from mvar_jax.ops.scale_attention import SCALE_ATTENTION, scale_attention
from mvar_jax.ops.ssd import SSD, ssd

OPS = {ATTENTION: attention, SCALE_ATTENTION: scale_attention, SSD: ssd}
ROWS = [
    pytest.param(op, row, id=f"{op.name}-{row.name}") for op in OPS for row in op.implementations
]


def too_long(*, n):
    return f"{n} tokens, expected at most 4" if n > 4 else None


TABLE = Op(
    "count",
    (
        Implementation("fast", "builtins:len", ("tpu",), interpreted=True, mismatch=too_long),
        Implementation("cuda", "builtins:len", ("gpu",)),
        Implementation("xla", "builtins:len"),
    ),
)


@pytest.mark.parametrize(
    ("here", "n", "name"),
    [("tpu", 4, "fast"), ("tpu", 5, "xla"), ("gpu", 4, "cuda"), ("cpu", 4, "xla")],
)
def test_auto_is_the_first_that_is_compiled_here_and_fits(monkeypatch, here, n, name):
    monkeypatch.setattr(implementations, "platform", lambda: here)
    assert TABLE.pick("auto", n=n).name == name


def test_a_named_implementation_is_picked_where_it_runs():
    picked = TABLE.pick("fast", n=3)
    assert picked.name == "fast"  # interpreted
    assert picked([1, 2, 3]) == 3


def test_a_name_that_another_op_has_is_left_to_auto():
    assert TABLE.own("cuda") == "cuda"
    assert TABLE.own("pallas_tpu") == "auto"


@pytest.mark.parametrize(
    ("name", "n", "sentence"),
    [
        ("fats", 1, "count: got implementation 'fats', expected 'auto' or one of 'fast', 'cuda',"),
        ("cuda", 1, "count: implementation 'cuda' got the platform 'cpu', expected 'gpu'; use"),
        ("fast", 5, "count: implementation 'fast' got 5 tokens, expected at most 4; use 'auto'"),
    ],
)
def test_what_cannot_run_is_refused_in_one_sentence(name, n, sentence):
    with pytest.raises(ValueError) as error:
        TABLE.pick(name, n=n)
    assert str(error.value).startswith(sentence)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "name"), [("TPU v5 lite", "tpu"), ("NVIDIA H100 80GB HBM3", "gpu"), ("cpu", "cpu")]
)
def test_the_platform_is_that_of_the_ambient_mesh(monkeypatch, kind, name):
    assert platform() == "cpu"
    device = jax.sharding.AbstractDevice(device_kind=kind, num_cores=1, platform=name)
    mesh = AbstractMesh((1,), ("data",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        assert platform() == name


def test_configs_name_what_the_tables_hold():
    assert set(KERNELS) == {"auto"} | {row.name for op in OPS for row in op.implementations}


@pytest.mark.parametrize(("op", "row"), ROWS)
def test_an_implementation_takes_the_arguments_of_the_op(op, row):
    module, _, name = row.function.partition(":")
    own = inspect.signature(getattr(import_module(module), name)).parameters
    expected = inspect.signature(OPS[op]).parameters
    assert list(own) == [name for name in expected if name != "implementation"]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_the_last_implementation_runs_everywhere(op):
    last = op.implementations[-1]
    assert last.name == "xla" and last.platforms == implementations.PLATFORMS
    assert last.mismatch(heads=3, dim=48) is None


def test_heads_that_fill_no_registers_are_refused_by_tpu_kernels():
    array = jnp.ones((1, 2, 1, 48))
    rest = {"slices": (slice(0, 1),), "softmax_scale": 1.0, "reach": "scale"}
    sentence = "'pallas_tpu' got heads of 48 channels in 96, expected heads that divide 128 and"
    with pytest.raises(ValueError, match=f"scale_attention: implementation {sentence}"):
        scale_attention(array, array, array, **rest, implementation="pallas_tpu")


def test_heads_that_tensor_cores_do_not_take_are_refused_by_gpu_kernels():
    array = jnp.ones((1, 2, 1, 48))
    rest = {"slices": (slice(0, 1),), "softmax_scale": 1.0, "reach": "scale"}
    sentence = "'pallas_gpu' got heads of 48 channels, expected one of 16, 32, 64, 128; use 'auto'"
    with pytest.raises(ValueError, match=f"scale_attention: implementation {sentence}"):
        scale_attention(array, array, array, **rest, implementation="pallas_gpu")


@pytest.mark.parametrize("name", ["pallas_tpu", "pallas_gpu"])
def test_a_state_is_refused_by_kernels(name):
    x, by_head, b = jnp.ones((1, 2, 2, 64)), jnp.ones((1, 2, 2)), jnp.ones((1, 2, 32))
    with pytest.raises(ValueError, match=f"ssd: implementation '{name}' got a state to start"):
        ssd(x, by_head, -by_head[0, 0], b, b, implementation=name)


@pytest.mark.parametrize(
    ("dim", "state_size", "dtype", "name"),
    [
        (64, 64, "bfloat16", "pallas_gpu"),
        (32, 32, "float16", "pallas_gpu"),
        (64, 64, "float32", "xla"),
        (128, 64, "bfloat16", "xla"),
        (64, 128, "bfloat16", "xla"),
    ],
)
def test_the_state_space_kernel_for_gpus_is_picked_where_it_fits(dim, state_size, dtype, name):
    sizes = {"heads": 2, "dim": dim, "state_size": state_size}
    device = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", num_cores=1, platform="gpu")
    mesh = AbstractMesh((1,), ("data",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        assert SSD.pick("auto", **sizes, stateful=False, dtype=dtype).name == name


@pytest.mark.parametrize(
    ("kind", "capability", "name"),
    [
        ("NVIDIA A10G", "8.6", "pallas_gpu"),
        ("NVIDIA B200", "10.0", "pallas_gpu"),
        ("NVIDIA GeForce RTX 2080 Ti", "7.5", "xla"),
        ("Tesla T4", "7.5", "xla"),
        ("AMD Instinct MI300X", "gfx942", "xla"),
    ],
)
def test_gpus_that_triton_is_not_compiled_for_run_plain_jax(monkeypatch, kind, capability, name):
    device = SimpleNamespace(device_kind=kind, compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert ATTENTION.pick("auto", heads=2, dim=64).name == name
    assert SCALE_ATTENTION.pick("auto", heads=2, dim=64).name == name
    sizes = {"heads": 2, "dim": 64, "state_size": 64, "stateful": False, "dtype": "bfloat16"}
    assert SSD.pick("auto", **sizes).name == name
    if name == "xla":
        with pytest.raises(ValueError, match=f"got a {kind}, expected NVIDIA's GPU of compute"):
            SSD.pick("pallas_gpu", **sizes)


def test_plain_jax_imports_no_pallas():
    program = """
import sys
import jax.numpy as jnp
from mvar_jax.models import Trunk
from mvar_jax.ops.scale_attention import scale_attention
x = jnp.ones((1, 2, 1, 64))
scale_attention(x, x, x, slices=(slice(0, 1),), softmax_scale=1.0, reach="scale")
assert "jax.experimental.pallas" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
