"""Builds the API reference from the docstrings; a warning of pdoc is an error.

python docs/reference.py reference
"""

import importlib
import pkgutil
import re
import sys
import typing
import warnings
from pathlib import Path

typing.GENERATING_DOCUMENTATION = "mvar_jax"  # types are then written Float[Array, "batch n"]

import pdoc  # noqa: E402
import pdoc.render  # noqa: E402

import mvar_jax  # noqa: E402

ARGUMENT = re.compile(r"^(?=[\w, ]+: )", re.MULTILINE)  # "x, y: what they are", a line each


def list_everything(package) -> None:
    """Lists the modules of a package, and its names that are imported on first use."""
    names = list(getattr(package, "__all__", ()))
    for name in names:
        setattr(package, name, getattr(package, name))
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        name = module.name.rpartition(".")[2]
        if not name.startswith("_"):
            names += [name] * (name not in names)
            imported = importlib.import_module(module.name)
            if module.ispkg:
                list_everything(imported)
    package.__all__ = names


def main(folder: str) -> None:
    """Writes a page per module, and a search index."""
    warnings.filterwarnings("error", module=r"pdoc\.")
    list_everything(mvar_jax)
    pdoc.render.configure(docformat="markdown", footer_text=f"mvar_jax {mvar_jax.__version__}")
    pdoc.pdoc("mvar_jax", output_directory=Path(folder))


if __name__ == "__main__":
    main(sys.argv[1])
