"""The documents: commands, flags, links and tables are right, and the API reference builds."""

import ast
import dataclasses
import html
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import mvar_jax
from mvar_jax.config import Config
from mvar_jax.config.files import load_config
from mvar_jax.config.recipes import RECIPES
from mvar_jax.config.tree import from_config_dict
from tests.test_structure import FLOORS, PACKAGE

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", "launch/*.md") for path in ROOT.glob(pattern)
)
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}
COMMAND = re.compile(r"python -m mvar_jax\.[^\n`#]*")

# Prints the flags of every program, a line each: its name, then their names.
FLAGS = """
import importlib, sys
from absl import flags
for name in sys.argv[1:]:
    module, _, function = name.partition(":")
    before = set(flags.FLAGS)
    getattr(importlib.import_module(module), function)()
    print(name, *(set(flags.FLAGS) - before))
    for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)
"""
OF_ALL = {"help", "compilation_cache"}
EVALUATIONS = ("sample", "metrics", "tokenizer")  # commands, each with a module of its name
# The commands of the benchmark, and the modules that define their flags.
BENCHMARKS = {"sample": "batches", "train": "batches", "policies": "policies", "blocks": "blocks"}


def commands():
    """Every command of this package in the documents, continued lines joined."""
    for name, text in TEXTS.items():
        for command in COMMAND.findall(text.replace("\\\n", " ")):
            yield pytest.param(command.rstrip("."), id=f"{name}: {command[17:60]}")


def main_of(words):
    """The module and the function that define the flags of a command."""
    program = words[2]
    if program == "mvar_jax.convert":
        return f"{program}.__main__:define_{words[3] if len(words) > 3 else 'import'}"
    if program == "mvar_jax.evaluate":
        return f"{program}.{words[3] if len(words) > 3 else EVALUATIONS[0]}:define_flags"
    if program == "mvar_jax.benchmark":
        command = words[3].partition("|")[0] if len(words) > 3 else "sample"
        return f"{program}.{BENCHMARKS[command]}:define_flags"
    return f"{program}:define_flags"


@pytest.fixture(scope="session")
def flags():
    """The names of the flags of all programs, by their module and function."""
    programs = [
        f"mvar_jax.{path.stem}:define_flags"
        for path in PACKAGE.glob("*.py")
        if not path.stem.startswith("_") and "cli.run(" in path.read_text(encoding="utf-8")
    ]
    programs += [f"mvar_jax.benchmark.{module}:define_flags" for module in BENCHMARKS.values()]
    programs += [f"mvar_jax.evaluate.{module}:define_flags" for module in EVALUATIONS]
    programs += [f"mvar_jax.convert.__main__:define_{way}" for way in ("import", "export")]
    result = subprocess.run(
        [sys.executable, "-c", FLAGS, *programs], capture_output=True, text=True, check=True
    )
    return {name: set(names) for name, *names in map(str.split, result.stdout.splitlines())}


@pytest.mark.parametrize("command", commands())
def test_a_command_has_a_program_and_only_flags_that_it_knows(command, flags):
    words = shlex.split(command)
    known = flags[main_of(words)] | OF_ALL
    for word in words[3:]:
        flag = word.partition("=")[0].removeprefix("--")
        if word.startswith("--"):
            assert flag.partition(".")[0] in known, word
            check_setting(flag)
        config = word.removeprefix("--config=")
        if config != word and config not in ("FILE", "DIR"):
            load_config(config.removeprefix("configs/"))


def check_setting(flag):
    """That `config.a.b` is a setting."""
    name, *path = flag.split(".")
    value = Config() if name == "config" else None
    for field in path:
        assert field in {item.name for item in dataclasses.fields(value)}, flag
        value = getattr(value, field)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files(name):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXTS[name]):
        assert (ROOT / name).parent.joinpath(target).exists(), target


def anchors(text):
    """What links to headings are called: GitHub's rule, without code blocks."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_headings(name):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", TEXTS[name]):
        text = (ROOT / name).parent.joinpath(target).read_text("utf-8") if target else TEXTS[name]
        assert anchor in anchors(text), f"{target}#{anchor}"


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_left_to_fill_in(name):
    assert not re.findall(r"@[A-Z0-9_]+@", TEXTS[name])


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_are_named_exist(name):
    for target in re.findall(r"`((?:tests|configs|launch|mvar_jax)/[\w/.]+\.\w+)`", TEXTS[name]):
        placeholder = re.search(r"\b_?(NAME|OP)(_OP|_names)?\b|\b(test_)(NAME|OP)\b", target)
        assert placeholder or (ROOT / target).exists(), target


def test_the_table_of_rooms_has_every_room():
    rooms = set().union(*FLOORS) - {"mvar_jax"}  # the package itself
    listed = re.findall(r"^\| (`mvar_jax/.*?) \|", TEXTS["README.md"], re.MULTILINE)
    text = " ".join(listed)
    for room in rooms:
        assert re.search(rf"mvar_jax/{room}(/|\.py)|[{{,]{room}[,}}]", text), room
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(re.findall(r"`mvar_jax/(\w+)/`", text))


def test_every_program_is_in_the_readme(flags):
    for name in flags:
        program = ".".join(name.partition(":")[0].split(".")[:2])
        assert f"| `python -m {program}" in TEXTS["README.md"], program


def extras_of_the_setup():
    setup = ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")))
    extras = (node.value for node in setup if getattr(node, "arg", None) == "extras_require")
    return sorted(key.value for key in next(extras).keys)


def test_the_extras_are_those_of_the_setup():
    listed = re.findall(r"^\| `(\w+)` \| .* \|$", TEXTS["README.md"], re.MULTILINE)
    assert sorted(listed) == extras_of_the_setup()


def test_programs_name_extras_in_one_way():
    """As the README does: the package is on no index, so that its name installs nothing."""
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "configs").glob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in sources)
    assert not re.findall(r"mvar_jax\[", source)
    named = set(re.findall(r"install_command\(['\"](\w+)['\"]\)", source))
    assert len(named) > 5 and named <= set(extras_of_the_setup())


def test_peak_learning_rates_are_those_of_the_configs():
    rows = re.findall(
        r"^\| (`\w+\.py.*?) \| (\w+) \| (\d+) \| (\S+) \| (\S+) \|$",
        TEXTS["docs/training.md"],
        re.MULTILINE,
    )
    assert len(rows) == 10
    for names, trained, batch, rate, peak in rows:
        first, *others = re.findall(r"`(.*?)`", names)
        file, _, preset = first.partition(":")
        for name in (preset, *others):
            config = from_config_dict(load_config(f"{file}:{name}" if name else file))
            optimizer = config.optimizer if trained == "trunk" else config.tokenizer_optimizer
            assert (config.batch_size, optimizer.learning_rate) == (int(batch), float(rate))
            assert float(peak) == pytest.approx(float(rate) * int(batch) / 256)


def test_recipes_of_one_depth_have_one_rate():
    for depth in (16, 20, 24, 30):
        rates = {
            from_config_dict(load_config(f"{kind}_imagenet256.py:d{depth}")).optimizer.learning_rate
            for kind in ("var", "mvar")
        }
        assert rates == {RECIPES[depth].learning_rate}


@pytest.mark.slow
def test_the_api_reference_builds_without_warnings(tmp_path):
    command = [sys.executable, str(ROOT / "docs" / "reference.py"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    page = (tmp_path / "mvar_jax.html").read_text(encoding="utf-8")
    for name in mvar_jax.__all__:
        assert f'id="{name}"' in page, name
    modules = [path for path in PACKAGE.rglob("*.py") if not path.stem.startswith("_")]
    for path in modules:
        names = path.relative_to(PACKAGE.parent).with_suffix("").parts
        assert tmp_path.joinpath(*names).with_suffix(".html").is_file(), path
    attention = (tmp_path / "mvar_jax" / "ops" / "attention.html").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]*>", "", attention))
    assert "query: Float[Array, 'batch heads n dim']" in text  # in a signature, not in the source
