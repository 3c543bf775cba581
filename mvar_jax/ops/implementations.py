"""Ops with several implementations: the table of an op, and the choice of a row.

An op is one documented function with the argument `implementation`. To add an implementation, add
a row to the op's table and a file with a function of the op's arguments; callers and tests do not
change.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from mvar_jax.checks import check

PLATFORMS = ("cpu", "gpu", "tpu")
TRITON_CAPABILITY = 8.0  # the least that XLA compiles Triton kernels for


def platform() -> str:
    """The platform that the traced program will run on, one of `PLATFORMS`.

    It is that of the ambient mesh, whose devices need not exist, or else of the default device.
    """
    kind = device_kind()
    if kind.startswith("TPU"):
        return "tpu"
    return "cpu" if kind == "cpu" else "gpu"


def device_kind() -> str:
    """What JAX calls the devices that the traced program will run on, as "NVIDIA H100 PCIe"."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return (device or jax.devices()[0]).device_kind


def takes_triton() -> bool:
    """Whether the GPU of the traced program is NVIDIA's and runs Triton: from Ampere on, 8.0.

    A GPU that is not there, for which is only compiled, is taken for one that does.
    """
    kind = device_kind()
    here = (device for device in jax.devices() if device.device_kind == kind)
    capability = getattr(next(here, None), "compute_capability", "8.0")
    return kind.startswith("NVIDIA") and float(capability) >= TRITON_CAPABILITY


def on_tpu() -> bool:
    """Whether the program that is being traced will run on TPUs."""
    return platform() == "tpu"


def takes_everything(**problem: Any) -> None:
    """The `mismatch` of an implementation without requirements."""


@dataclass(frozen=True)
class Implementation:
    """One way to compute an op; called with the op's arguments, without `implementation`.

    name: the value of `implementation` in calls and configs.
    function: "module:function"; the module is imported by the first call, so that a program
        imports Pallas only if it runs it.
    platforms: the platforms it is compiled for, some of `PLATFORMS`.
    interpreted: whether it also runs on the other platforms, interpreted and therefore slowly.
    mismatch: a function of the problem's sizes, as passed to the op's `pick`; returns None if the
        implementation accepts them, else "GOT, expected WHAT".
    flat_heads: whether it computes on arrays [batch, n, heads * dim]. Arguments are then best
        computed in that layout and rearranged; the compiler removes both transposes.
    """

    name: str
    function: str
    platforms: tuple[str, ...] = PLATFORMS
    interpreted: bool = False
    mismatch: Callable[..., str | None] = takes_everything
    flat_heads: bool = False

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Computes the op."""
        module, _, function = self.function.partition(":")
        return getattr(importlib.import_module(module), function)(*arguments, **keywords)


@dataclass(frozen=True)
class Op:
    """The implementations of an op, in the order in which "auto" tries them.

    The last one, "xla", runs on every platform and accepts all sizes.
    """

    name: str
    implementations: tuple[Implementation, ...]

    def own(self, implementation: str) -> str:
        """That name, or "auto" if this op has none such: configs give one name for all ops."""
        names = (row.name for row in self.implementations)
        return implementation if implementation in names else "auto"

    def pick(self, implementation: str, **problem: Any) -> Implementation:
        """The implementation of that name; for "auto" the first one compiled for this platform.

        "auto" skips those that do not accept the sizes in `problem`. Raises ValueError for an
        unknown name, a platform that the implementation does not run on, and sizes that it does
        not accept.
        """
        here = platform()
        if implementation == "auto":
            suited = (row for row in self.implementations if here in row.platforms)
            return next(row for row in suited if row.mismatch(**problem) is None)
        rows = {row.name: row for row in self.implementations}
        check(
            implementation in rows,
            f"{self.name}: got implementation {implementation!r}, expected 'auto' or one of "
            f"{', '.join(map(repr, rows))}.",
        )
        row = rows[implementation]
        check(
            here in row.platforms or row.interpreted,
            f"{self.name}: implementation {row.name!r} got the platform {here!r}, expected "
            f"{' or '.join(map(repr, row.platforms))}; use 'auto'.",
        )
        mismatch = row.mismatch(**problem)
        check(
            mismatch is None,
            f"{self.name}: implementation {row.name!r} got {mismatch}; use 'auto' or 'xla'.",
        )
        return row
