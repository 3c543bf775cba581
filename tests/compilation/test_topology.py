"""Topologies by name: what is refused, and how much memory a GPU gives."""

import pytest
from jax.experimental import topologies

from mvar_jax.compilation.topology import CHIPS, MEMORY_VARIABLES, get_chip, topology_devices

CARD = 84942979072  # bytes of an H100


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in MEMORY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("topology", ["v5e", "h300:1x8", "h100", ":1x8", ""])
def test_unknown_chips_are_refused(topology):
    with pytest.raises(ValueError, match=r"expected one of v4, v5e, .*, h100, .* and a shape"):
        get_chip(topology)


@pytest.mark.parametrize("shape", ["8", "0x8", "1x0", "1x17", "1x8x1", "-1x8", "01x8", "1x8 "])
def test_what_is_no_number_of_hosts_and_gpus_is_refused(shape):
    with pytest.raises(ValueError, match="expected hosts x GPUs of a host"):
        topology_devices(f"h100:{shape}")


@pytest.mark.parametrize(
    ("topology", "extra"), [("v5e:2x2", r"\.\[tpu\]"), ("h100:1x1", r"\.\[gpu_compiler\]")]
)
def test_a_missing_compiler_is_named(monkeypatch, topology, extra):
    def refuse(*arguments, **keywords):
        raise NotImplementedError("topology not implemented for it\nand more")

    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    with pytest.raises(ValueError, match=rf"not implemented for it\).*{extra}"):
        topology_devices(topology)


def test_a_gpu_gives_what_jax_allocates(monkeypatch):
    assert get_chip("h100:1x8").memory_bytes == int(0.75 * CARD)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".9")
    assert get_chip("h100:1x8").memory_bytes == int(0.9 * CARD)
    assert get_chip("v5e:2x2").memory_bytes == 16 * 2**30


@pytest.mark.parametrize("share", ["0", "1.5", "most", "-0.5", "nan"])
def test_a_share_of_memory_that_is_none_is_refused(monkeypatch, share):
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", share)
    with pytest.raises(ValueError, match=f"XLA_CLIENT_MEM_FRACTION: got '{share}'"):
        get_chip("h100:1x8")


def test_a_gpu_is_described_to_its_compiler():
    for name in ("a100", "h100", "h200", "b200"):
        target = CHIPS[name].compiler.target
        assert f"device_memory_size: {CHIPS[name].memory_bytes}\n" in target
        assert target.count("{") == target.count("}")
