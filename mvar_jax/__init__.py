"""Next-scale image generation in JAX: M-VAR, VAR and mixtures of them.

`load(workdir)` opens a trained model and `import_weights(file, Workdir.of(path))` makes one of
official weights; see `mvar_jax.api` and `mvar_jax.convert`. `save_images(samples.images, folder)`
writes what a model drew, `to_uint8(images)` gives its pixels. Every name is imported when it is
first used: `import mvar_jax` alone takes no time.
"""

import gc
import importlib
import os
import signal
import sys

__version__ = "0.1.0"
__all__ = ["Model", "Samples", "Workdir", "import_weights", "load", "save_images", "to_uint8"]

MODULES = {
    "Workdir": "mvar_jax.workdir",
    "import_weights": "mvar_jax.convert.import_weights",
    "save_images": "mvar_jax.pictures.image_files",
    "to_uint8": "mvar_jax.pictures.pixels",
}


def _is_program() -> bool:
    """Whether Python looks for `python -m mvar_jax.PROGRAM` now, and not for another package's."""
    if sys.argv[:1] != ["-m"]:
        return False
    name = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    return name.split(".")[0] == __name__


if _is_program():
    # Until `cli.run` takes over, its imports take a second or two, in which Ctrl-C is to end it as
    # it does later, not with a traceback.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    gc.disable()  # as below, until then


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Importing makes many objects and next to no garbage; looking for it takes a quarter as long.
    collects = gc.isenabled()
    gc.disable()
    try:
        module = importlib.import_module(MODULES.get(name, "mvar_jax.api"))
    finally:
        if collects:
            gc.enable()
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
