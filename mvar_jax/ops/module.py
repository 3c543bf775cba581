"""The base of the library's flax modules."""

from collections.abc import Callable
from typing import Any, no_type_check

import flax.linen as nn
import numpy as np
from flax.errors import ScopeParamShapeError


class Module(nn.Module):
    """A flax module that looks parameters up without tracing how they would be initialised.

    flax compares the shape of a parameter with that of its initializer's result, and traces the
    initializer for it at every call: more than a tenth of the tracing before a first picture.
    """

    def param(
        self, name: str, init_fn: Callable[..., Any], *init_args: Any, **init_kwargs: Any
    ) -> Any:
        """The parameter `name`, made by `init_fn(key, *init_args)` in `init`.

        Raises `flax.errors.ScopeParamShapeError` unless a given one has the shape
        `init_args[0]`, by flax's convention for initializers. Without arguments nothing is
        compared.
        """
        if not self.has_variable("params", name):
            return super().param(name, init_fn, *init_args, **init_kwargs)
        value: Any = self.get_variable("params", name)
        if init_args and np.shape(value) != tuple(init_args[0]):
            path = self.scope.path_text if self.scope else ""
            raise ScopeParamShapeError(name, path, np.shape(value), tuple(init_args[0]))
        return value


@no_type_check  # flax has types that cannot be checked
class Conv(Module, nn.Conv):
    """flax's convolution."""


@no_type_check
class Dense(Module, nn.Dense):
    """flax's linear layer."""


@no_type_check
class GroupNorm(Module, nn.GroupNorm):
    """flax's group normalisation."""


@no_type_check
class LayerNorm(Module, nn.LayerNorm):
    """flax's layer normalisation."""
