"""Running a program: its flags are parsed, and whatever ends it is said in one sentence."""

import gc
import importlib.metadata
import importlib.util
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from absl import flags

from mvar_jax.checks import check, describe_os_error, first_line, is_out_of_device_memory
from mvar_jax.cli.common import joins
from mvar_jax.cli.interrupt import end_at_once_when_interrupted
from mvar_jax.config.files import find_config
from mvar_jax.files import cache_folder

BAD_INPUT = 2  # exit code
UNREAD = 128 + 13  # exit code that shells give for a closed pipe
OPTIMIZATION = "--xla_backend_optimization_level"
PLATFORMS = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
HELP = ("--help", "-help", "-h")


def run(
    main: Callable[[], None],
    define_flags: Callable[[], None] = lambda: None,
    *,
    times_compilation: bool = False,
) -> None:
    """Defines and parses the flags and calls `main`.

    Bad input ends the program with one sentence and exit code 2, Ctrl-C at once and with exit code
    130. A config file is looked for in the current directory, then among those of the package. A
    program that reports how long compiling takes says so by `times_compilation`: it finds and
    keeps no compiled programs.
    """
    end_at_once_when_interrupted()
    gc.freeze()  # what was imported stays; looking through it again takes a quarter second
    gc.enable()
    _compile_faster_on_cpus()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that a terminal cannot show
    others = set(flags.FLAGS)
    define_flags()
    if not times_compilation:
        flags.DEFINE_string("compilation_cache", None, "Folder of compiled programs; empty: none.")
    try:
        if any(argument in HELP for argument in sys.argv[1:]):
            print(_help(sorted(set(flags.FLAGS) - others)), flush=True)
            return
        _parse(sys.argv)
        if times_compilation:
            jax.config.update("jax_enable_compilation_cache", False)
        else:
            _keep_programs()
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads what is printed any more, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(UNREAD)
    except ValueError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(describe_os_error(error))
    except MemoryError as error:
        _refuse(
            f"this machine has not enough memory ({first_line(error)}); ask for less at once, as a "
            "smaller batch, fewer images or a smaller picture."
        )
    except Exception as error:
        if is_out_of_device_memory(error):
            _refuse(_describe_device_memory(error))
        if _has_devices():
            raise
        name = _platforms() or ""
        _refuse(
            f"{name}: got {os.environ[name]!r}, of which JAX finds no devices here; expected cpu, "
            "or cuda or tpu where JAX is installed for it, or leave it out for the best there is."
        )


def run_command(
    commands: Mapping[str, tuple[Callable[[], None], Callable[[], None]]],
    *,
    times_compilation: bool = False,
) -> None:
    """Runs the `main` and `define_flags` of the command that is the program's first argument."""
    named = len(sys.argv) > 1 and not sys.argv[1].startswith("-")
    command = sys.argv.pop(1) if named else ""
    if command in commands:
        run(*commands[command], times_compilation=times_compilation)
        return

    def refuse() -> None:
        raise ValueError(f"got the command {command!r}, expected one of {', '.join(commands)}.")

    if any(argument in HELP for argument in sys.argv[1:]):
        print(sys.modules["__main__"].__doc__)
        return
    sys.argv[1:] = []  # the command is what is wrong, not its flags
    run(refuse)


def _help(names: list[str]) -> str:
    """What a program does, and its flags."""
    lines = [(sys.modules["__main__"].__doc__ or "").rstrip(), "", "Flags:"]
    for name in names:
        flag = flags.FLAGS[name]
        text = (flag.default_as_str or "").strip("'")
        default = f" (default: {text})" if text else ""
        lines.append(f"  --{name}: {flag.help}{default}")
    return "\n".join(lines)


def _describe_device_memory(error: Exception) -> str:
    """One sentence for a device that has not enough memory, and what of this program takes less."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")  # CPUs do not say
    size = f" ({limit / 2**30:.1f} GiB)" if limit else ""
    smaller = {"batch_size": "a smaller --batch_size", "config": "a smaller --config.batch_size"}
    ways = [text for name, text in smaller.items() if name in flags.FLAGS]
    return (
        f"{device.device_kind}: the device has not enough memory{size} for this "
        f"({first_line(error)}); ask for less at once, as by "
        f"{' or '.join([*ways, 'fewer or smaller images'])}."
    )


def _platforms() -> str | None:
    """The environment variable that says which devices JAX is to use, if any does."""
    return next((name for name in PLATFORMS if os.environ.get(name)), None)


def _has_devices() -> bool:
    """Whether JAX finds the devices that it was told to use; it fails in ways of many kinds."""
    try:
        return _platforms() is None or bool(jax.devices())
    except Exception:
        return False


def _compile_faster_on_cpus() -> None:
    """Asks XLA for level 2 of its optimization, not 3, where only CPUs compute.

    Programs compile in a fifth to a half of the time, run as fast and give the same bits. What the
    user set is left alone; JAX reads the variable when it is first asked for devices.
    """
    own = os.environ.get("XLA_FLAGS", "")
    only_cpus = os.environ.get("JAX_PLATFORMS") == "cpu" or not _has_plugins()
    if only_cpus and OPTIMIZATION not in own:
        os.environ["XLA_FLAGS"] = f"{own} {OPTIMIZATION}=2".strip()


def _has_plugins() -> bool:
    """Whether JAX may find accelerators: packages that bring them are installed."""
    libtpu = importlib.util.find_spec("libtpu") is not None
    return libtpu or bool(importlib.metadata.entry_points(group="jax_plugins"))


def _keep_programs() -> None:
    """Lets JAX keep what it compiles where the flags say; see `mvar_jax.cli`."""
    named = flags.FLAGS.compilation_cache
    if named == "":
        jax.config.update("jax_enable_compilation_cache", False)
    if named == "" or (named is None and ("JAX_COMPILATION_CACHE_DIR" in os.environ or joins())):
        return
    try:
        folder = (
            cache_folder("compiled") if named is None else Path(named).expanduser()
        ).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        check(os.access(folder, os.W_OK), f"{folder}: it cannot be written")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: there is no home
        sys.stderr.write(
            f"warning: compiled programs are not kept ({first_line(error)}); name a folder by "
            "--compilation_cache=DIR, or none by --compilation_cache=\n"
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # A disk that fills up, or an entry that was torn, costs compiling again and nothing else.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def _refuse(sentence: str) -> None:
    """Ends the program over bad input."""
    sys.stderr.write(f"error: {sentence}\n")
    if jax.distributed.is_initialized():
        # An orderly end would wait for the other processes, which may be waiting for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(BAD_INPUT)
    sys.exit(BAD_INPUT)


def _parse(arguments: list[str]) -> None:
    """Parses flags. Raises ValueError for whatever is wrong with them."""
    try:
        rest = flags.FLAGS([find_config(argument) for argument in _joined(arguments)])
        if "config" in flags.FLAGS and flags.FLAGS.config is None:
            raise ValueError("--config: its file has no get_config that returns a config.")
    except Exception as error:  # ml_collections raises many kinds over overrides and files
        raise ValueError(_sentence(error)) from None
    if rest[1:]:
        raise ValueError(f"got {rest[1]!r}, expected flags only, as in --name=value.")


def _sentence(error: Exception) -> str:
    """What an error says, without the traceback that ml_collections puts into its message."""
    text = str(error).strip()
    if isinstance(error, (KeyError, AttributeError)):  # its text is quoted, at times twice
        text = text.strip("'\"").replace("\\n", ". ").replace("\\'", "'")
        return f"--config: no setting of that name: {text}"
    name = re.search(r"--\w+", text)
    if name and text.endswith("must have a value other than None."):
        return f"{name[0]} is missing, expected a value for it."
    text = re.sub(r"^flag --[^ ]*: (Flag |Error whilst)", r"\1", text)
    return re.sub(r"^\w+Error: ", "", text.rpartition("\n")[2]) or type(error).__name__


def _joined(arguments: list[str]) -> list[str]:
    """Arguments with "--config FILE" written as "--config=FILE"."""
    if "--config" not in arguments[:-1]:
        return arguments
    place = arguments.index("--config")
    joined = f"--config={arguments[place + 1]}"
    return [*arguments[:place], joined, *arguments[place + 2 :]]
