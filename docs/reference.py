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

import jax
import pdoc
import pdoc.docstrings
import pdoc.render

# Annotations are written as Float[Array, 'batch n width'], without modules.
typing.GENERATING_DOCUMENTATION = "mvar_jax"
jax.Array.__name__ = jax.Array.__qualname__ = "Array"

import mvar_jax  # noqa: E402

ARGUMENT = re.compile(r"^([a-z]\w*(?:, \w+)*): ", re.MULTILINE)
to_markdown = pdoc.docstrings.convert


def with_lists(docstring: str, *settings) -> str:
    """Markdown of a docstring, where paragraphs of lines "argument: what it is" are lists."""
    paragraphs = [
        ARGUMENT.sub(r"- **\1**: ", text) if ARGUMENT.match(text) else text
        for text in docstring.split("\n\n")
    ]
    return to_markdown("\n\n".join(paragraphs), *settings)


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
    warnings.filterwarnings("ignore", r".*\butils\.VersionOrStr")  # in fields inherited from TFDS
    list_everything(mvar_jax)
    pdoc.docstrings.convert = with_lists
    pdoc.render.configure(docformat="markdown", footer_text=f"mvar_jax {mvar_jax.__version__}")
    pdoc.pdoc("mvar_jax", output_directory=Path(folder))


if __name__ == "__main__":
    main(sys.argv[1])
