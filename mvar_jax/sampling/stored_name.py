"""The name of the float32 weights that a model's were narrowed from."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path

import jax
from jax.sharding import Mesh
from jax.typing import DTypeLike

from mvar_jax.array_types import Params, in_32_bits
from mvar_jax.checks import check
from mvar_jax.models.checksum import checksum, glimpse
from mvar_jax.models.narrowing import narrowed


class StoredName:
    """The checksum of a trunk's stored weights, which are read again when it is first asked for.

    Few ask for it, and computing it takes seconds for every GB.
    """

    def __init__(
        self,
        trunk: Params,
        read: Callable[[], Params],
        *,
        dtype: DTypeLike,
        place: Path,
        mesh: Mesh,
    ):
        """Of parameters that were narrowed to `dtype`; `read` gives those stored in `place`.

        They are read on `mesh`, which may be empty for the default device.
        """
        self._loaded, self._read, self._dtype = trunk, read, dtype
        self._place, self._mesh = place, mesh

    def of(self, trunk: Params) -> str:
        """The name of `trunk`. Raises ValueError unless it was loaded and is still stored."""
        check(
            glimpse(trunk) == self._glimpse,
            "checksum: the weights are not those that were loaded; give the model that has them "
            "stored=None.",
        )
        return self._name

    @cached_property
    def _glimpse(self) -> str:
        """Of what was loaded. It is a program to compile, for which loading does not wait."""
        found = glimpse(self._loaded)
        del self._loaded  # it would be kept beside the copy whose heads a policy reorders
        return found

    @cached_property
    @in_32_bits
    def _name(self) -> str:
        with nullcontext() if self._mesh.empty else jax.set_mesh(self._mesh):
            params = self._read()
            check(
                glimpse(narrowed(params, self._dtype)) == self._glimpse,
                f"{self._place}: its weights are others than when the model was loaded; load it "
                "again.",
            )
            return checksum(params)
