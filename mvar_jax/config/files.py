"""Finding config files, those of the user and those of the package, and their presets."""

import runpy
from collections.abc import Collection
from pathlib import Path

from ml_collections import ConfigDict

from mvar_jax.checks import check

# Inside an installed package, and beside it in a clone.
CONFIG_FOLDERS = (Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs")


def load_config(name: str, **arguments: str) -> ConfigDict:
    """A config file by its name or path, with a preset after a colon, or the file's own default.

    `arguments` are what its `get_config` takes besides.
    """
    file, colon, preset = name.partition(":")
    path = find_config(f"--config={file}").removeprefix("--config=")
    get_config = runpy.run_path(path)["get_config"]
    return get_config(*([preset] if colon else []), **arguments)


def check_preset(preset: str, presets: Collection[str], file: str) -> None:
    """Raises ValueError, which gives the first of `presets` of a config file as an example."""
    check(
        preset in presets,
        f"config preset: got {preset!r}, expected one of {', '.join(presets)}, "
        f"as in --config=configs/{file}:{next(iter(presets))}.",
    )


def find_config(argument: str) -> str:
    """`--config=FILE...`, with the package's file of that name if FILE does not exist."""
    if not argument.startswith("--config="):
        return argument
    file, colon, preset = argument.removeprefix("--config=").partition(":")
    if not Path(file).is_file():
        own = file in (Path(file).name, f"configs/{Path(file).name}")
        found = [folder / Path(file).name for folder in CONFIG_FOLDERS if own]
        found = [path for path in found if path.is_file()]
        if not found:
            known = sorted(path.name for folder in CONFIG_FOLDERS for path in folder.glob("*.py"))
            raise ValueError(
                f"--config: found no file {file!r}, expected one of yours or of configs/: "
                f"{', '.join(name for name in known if name != '__init__.py')}."
            )
        file = str(found[0])
    return f"--config={file}{colon}{preset}"
