"""Scripts of the documentation, as modules."""

import importlib.util
from types import ModuleType

from tests.test_docs import ROOT


def script(name: str) -> ModuleType:
    """The script `docs/NAME.py`, imported but not run."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
