"""Policies of cache compression, one per file; all files in this folder are imported."""

import importlib
import pkgutil

from mvar_jax.cache.policies.base import POLICIES, Policy, Probe, Selection

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["POLICIES", "Policy", "Probe", "Selection"]
