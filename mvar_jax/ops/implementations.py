"""What stands behind an op: a table of implementations, and the choice of one.

An op is one documented function with the argument `implementation`. A further implementation is a
row in the op's table and a file that holds a function with the op's arguments; callers and tests
do not change.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from mvar_jax.checks import check

PLATFORMS = ("cpu", "gpu", "tpu")


def platform() -> str:
    """Where the program that is being traced will run, one of `PLATFORMS`.

    On the devices of the ambient mesh, which need not exist, or else on the default device.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    kind = (device or jax.devices()[0]).device_kind
    if kind.startswith("TPU"):
        return "tpu"
    return "cpu" if kind == "cpu" else "gpu"


def on_tpu() -> bool:
    """Whether the program that is being traced will run on TPUs."""
    return platform() == "tpu"


def takes_everything(**problem: Any) -> None:
    """The `mismatch` of an implementation without requirements."""


@dataclass(frozen=True)
class Implementation:
    """One way to compute an op; called with the op's arguments, without `implementation`.

    name: what callers and configs pick it by.
    function: "module:function"; the module is imported by the first call, so that a program
        imports Pallas only if it runs it.
    platforms: where it is compiled, some of `PLATFORMS`.
    interpreted: whether it runs on the other platforms too, interpreted, so slowly.
    mismatch: from the facts of a problem, which the op's `pick` lists, what does not fit, as
        "GOT, expected WHAT", or None.
    flat_heads: whether it computes on heads side by side, [batch, n, heads * dim]: what it is
        called with is then best computed in that layout and rearranged, which the compiler undoes.
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

    The last one, "xla", runs on every platform and takes everything.
    """

    name: str
    implementations: tuple[Implementation, ...]

    def pick(self, implementation: str, **problem: Any) -> Implementation:
        """The implementation of that name; for "auto" the first that is compiled and fits here.

        Raises ValueError for an unknown name, for a platform on which the implementation does not
        run, and for a problem that it does not take.
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
