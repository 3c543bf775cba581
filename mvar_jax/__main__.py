"""Next-scale image generation in JAX: the programs of this package.

    python -m mvar_jax
    python -m mvar_jax --version

Each program is run by its own name, as `python -m mvar_jax.sample --help`, which names its flags.
"""

import ast
import signal
import sys
from pathlib import Path

import mvar_jax


def programs() -> dict[str, str]:
    """What every program does, in a line, by its name."""
    folder = Path(mvar_jax.__file__).parent
    files = [path for path in folder.glob("*.py") if not path.stem.startswith("__")]
    found = [path for path in files if "cli.run(" in path.read_text(encoding="utf-8")]
    found += [path for path in folder.glob("*/__main__.py")]
    texts = {}
    for path in found:
        name = path.parent.name if path.stem == "__main__" else path.stem
        document = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        texts[name] = document.partition("\n")[0]
    return dict(sorted(texts.items()))


def main() -> None:
    """Prints the version or the programs."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a traceback
    if "--version" in sys.argv[1:]:
        print(f"mvar_jax {mvar_jax.__version__}")
        return
    print(__doc__)
    for name, text in programs().items():
        print(f"  python -m mvar_jax.{name:20} {text}")
    if sys.argv[1:] and not {"--help", "-h"} & set(sys.argv[1:]):
        sys.stderr.write(f"error: got {sys.argv[1]!r}, expected --version or nothing.\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
