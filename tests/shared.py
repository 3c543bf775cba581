"""What the processes of a run of the tests share."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import jax

from mvar_jax.cli.programs import OPTIMIZATION

# XLA's earlier emitters compile in two thirds of the time; later versions of JAX are without them.
_EMITTERS = " --xla_cpu_use_fusion_emitters=false" if jax.__version_info__ < (0, 11) else ""
UNOPTIMIZED = f"{OPTIMIZATION}=0{_EMITTERS}"


def quick_flags() -> str:
    """XLA's flags of the environment, and those to compile quickly unless it says how well."""
    own = os.environ.get("XLA_FLAGS", "")
    return own if OPTIMIZATION in own else f"{own} {UNOPTIMIZED}".strip()


def eight_devices() -> dict[str, str]:
    """The environment of a process with eight simulated devices, which compiles quickly."""
    flags = f"--xla_force_host_platform_device_count=8 {UNOPTIMIZED}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def made_once(root: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The directory `name`, filled by `make` in the first process that asks for it.

    `root` is the session's temporary directory; the workers of pytest-xdist have theirs in one.
    The other processes wait.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name, root / f"{name}.done"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
