"""Next-scale image generation in JAX: M-VAR, VAR and what lies between.

`load(workdir)` opens a trained model, see `mvar_jax.api`.
"""

import importlib

__all__ = ["Model", "Samples", "load"]


def __getattr__(name: str):
    # On demand: modules below need not import the data libraries that the API needs.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("mvar_jax.api"), name)
