"""Importing does nothing but import, and sampling imports nothing that only training needs."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mvar_jax
from mvar_jax.__main__ import programs
from tests.shared import quick_flags

PACKAGE = Path(mvar_jax.__file__).parent
MAINS = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")
    and path.name != "official.py"  # stands by itself, where this library is not installed
)
MOST_LINES_OF_A_MAIN = 79
MODULES = sorted(module.name for module in pkgutil.walk_packages(mvar_jax.__path__, "mvar_jax."))

# Arguments: the names of modules, in the order to import them.
IMPORT_ALL = """
import importlib, runpy, sys
from pathlib import Path
import jax
from absl import flags

opened = []
sys.addaudithook(lambda event, about: opened.append(str(about[0])) if event == "open" else None)
arguments, settings = list(sys.argv), dict(jax.config.values)
for name in sys.argv[1:]:
    importlib.import_module(name)
from mvar_jax.config.files import CONFIG_FOLDERS
configs = [path for folder in CONFIG_FOLDERS for path in folder.glob("*.py")]
for path in configs:
    runpy.run_path(str(path))

assert len(configs) >= 5
assert sys.argv == arguments
assert dict(jax.config.values) == settings
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
package = Path(sys.modules["mvar_jax"].__file__).parent
own = [name for name in opened if Path(name).is_relative_to(package)]
assert not [name for name in own if ".py" not in Path(name).name], own
named = [name for name in flags.FLAGS.flags_by_module_dict() if name.startswith("mvar_jax")]
assert not named, named
"""

FORBIDDEN = (
    "grain",
    "matplotlib",
    "sentencepiece",
    "tokenizers",
    "wordllama",
    "optax",
    "PIL",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
)
SAMPLE = f"""
import sys
import mvar_jax
assert mvar_jax.load(sys.argv[1]).sample([3, 7]).images.shape == (2, 32, 32, 3)
assert not [name for name in {FORBIDDEN} if name in sys.modules]
"""


def run_python(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "XLA_FLAGS": quick_flags()}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stdout and not result.stderr


@pytest.mark.parametrize("order", [1, -1], ids=["sorted", "reversed"])
def test_every_module_imports_in_one_process_and_leaves_nothing_behind(order):
    assert "mvar_jax.convert.__main__" in MODULES and "mvar_jax.sample" in MODULES
    run_python(IMPORT_ALL, *MODULES[::order])


def test_programs_of_other_packages_keep_their_interpreter(tmp_path):
    package = tmp_path / "other"
    package.mkdir()
    before = "import signal\nbefore = signal.getsignal(signal.SIGINT)\nimport mvar_jax\n"
    (package / "__init__.py").write_text(before)
    program = """
import gc, other, signal
assert gc.isenabled() and signal.getsignal(signal.SIGINT) is other.before
"""
    (package / "train.py").write_text(program)
    command = [sys.executable, "-m", "other.train", "mvar_jax.sample"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_every_program_that_is_listed_is_there():
    listed = programs()
    assert {"sample", "train", "convert", "quickstart"} <= set(listed)
    found = {f"mvar_jax.{name}" for name in listed}
    assert found <= {name.removesuffix(".__main__") for name in MODULES} - {"mvar_jax"}


def test_sampling_imports_neither_the_trainer_nor_datasets_nor_pictures(trained):
    run_python(SAMPLE, trained)


def test_a_picture_needs_matplotlib_only_for_its_labels():
    run_python("import mvar_jax.sample, sys\nassert 'matplotlib' not in sys.modules")


def test_all_public_names_are_found():
    assert all(getattr(mvar_jax, name).__name__ == name for name in mvar_jax.__all__)
    assert set(mvar_jax.__all__) <= set(dir(mvar_jax))
    with pytest.raises(AttributeError, match="no attribute 'sampel'"):
        mvar_jax.sampel


@pytest.mark.parametrize("path", MAINS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_programs_are_thin(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_A_MAIN
