"""Policies of cache compression, one a file; every file in this folder is found by itself."""

import importlib
import pkgutil

from mvar_jax.cache.policies.base import POLICIES, Policy, Probe, Selection

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["POLICIES", "Policy", "Probe", "Selection"]
