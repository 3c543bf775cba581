"""The rooms of the library: what each may import, and how many files they share at the top."""

import ast
from pathlib import Path

import mvar_jax

PACKAGE = Path(mvar_jax.__file__).parent
# From the ground up; a room imports only rooms of the floors below its own.
FLOORS = (
    {"mvar_jax", "array_types", "checks", "scales"},  # the first: its version and names
    {"files"},
    {"config", "tensor_files"},
    {"mesh", "workdir"},
    {"ops", "data", "hub"},
    {"cache", "tokenizers", "text", "networks"},
    {"models"},
    {"sampling", "training"},
    {"pictures"},
    {"evaluation"},
    {"compilation"},
    {"convert"},
    {"experiment"},
    {"api"},
    {"cli", "serving"},
    {"benchmark", "evaluate"},
)
MAINS = len(FLOORS)  # the floor of the programs
PROGRAM = '\nif __name__ == "__main__":'
# Programs may grow in number, what all of them share may not.
MOST_SHARED_FILES_AT_THE_TOP = 7


def room(module):
    """The first name below the package, a file at the top or a folder; programs by themselves."""
    names = module.split(".")
    return names[1] if len(names) > 1 and names[-1] != "__main__" else names[-1]


def floor(name):
    return next((i for i, rooms in enumerate(FLOORS) if name in rooms), MAINS)


def imports():
    """Every import of the library by itself: the importing module and the imported one."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: relative imports hide where a name is from"
                below = node.module == "mvar_jax"
                names = [f"mvar_jax.{a.name}" for a in node.names] if below else [node.module]
            else:
                continue
            yield from ((module, name) for name in names if name.split(".")[0] == "mvar_jax")


def test_imports_run_downwards_only():
    wrong = [
        f"{importer} (floor {floor(room(importer))}) imports {imported} "
        f"(floor {floor(room(imported))})"
        for importer, imported in imports()
        if room(importer) != room(imported) and floor(room(imported)) >= floor(room(importer))
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {}
    for importer, imported in imports():
        graph.setdefault(importer, set()).add(imported)
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            path.append(module)
            for imported in sorted(graph.get(module, ())):
                visit(imported)
            path.pop()
            done.add(module)

    for module in list(graph):
        visit(module)


def test_mathematics_knows_no_config():
    assert not [pair for pair in imports() if room(pair[0]) == "ops" and room(pair[1]) == "config"]


def test_few_files_but_programs_stand_at_the_top():
    texts = {path.name: path.read_text(encoding="utf-8") for path in PACKAGE.glob("*.py")}
    shared = sorted(name for name, text in texts.items() if PROGRAM not in text)
    assert len(shared) <= MOST_SHARED_FILES_AT_THE_TOP, shared
