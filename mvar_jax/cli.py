"""What the programs share: flags, the config flag, compiled programs, errors as one sentence.

A program is two functions: `define_flags`, which defines its flags when it runs and not when it
is imported, and `main`, which reads their values from `flags.FLAGS`.

    if __name__ == "__main__":
        cli.run(main, define_flags)

Programs keep what XLA compiles in `~/.cache/mvar_jax/compiled` (below `XDG_CACHE_HOME` where that
is set), so that a second start compiles nothing. `--compilation_cache=DIR` names another folder,
`--compilation_cache=` none. The environment variable `JAX_COMPILATION_CACHE_DIR`, where it is set,
comes before the default folder. Several processes that run as one keep nothing unless the flag
names a folder, which all of them must share: were one alone to find a program there, the others
would compile it for longer than it waits for them.
"""

import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from absl import app, flags
from ml_collections import config_flags

from mvar_jax.cache import Profile
from mvar_jax.checks import check, describe_os_error, first_line
from mvar_jax.config import Config
from mvar_jax.config.files import find_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.mesh.processes import join_cluster

BAD_INPUT = 2  # exit code


def define_config() -> None:
    """Defines `--config=FILE.py[:preset]` and its overrides `--config.a.b=value`."""
    config_flags.DEFINE_config_file("config", None, "Config file, with a preset after a colon.")
    flags.mark_flag_as_required("config")


def define_distributed() -> None:
    """Defines the flags by which several processes run a program as one; see `join`."""
    flags.DEFINE_bool("distributed", False, "Join the cluster that this process is part of.")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0; implies --distributed.")
    flags.DEFINE_integer("num_processes", None, "How many processes there are.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.", lower_bound=0)
    flags.DEFINE_integer("join_timeout", 300, "Seconds to wait for all to join.", lower_bound=1)


def define_profile() -> None:
    """Defines `--profile`; see `get_profile`."""
    flags.DEFINE_string("profile", None, "What python -m mvar_jax.calibrate measured.")


def define_policy() -> None:
    """Defines the flags that ask for a policy of cache compression; see `get_policy`."""
    flags.DEFINE_string("policy", None, "How the attention cache is compressed, as hack.")
    flags.DEFINE_float("ratio", None, "Share of all tokens that the policy evicts.")
    flags.DEFINE_integer("budget", None, "Tokens a head that it keeps, in place of --ratio.")
    define_profile()


def join() -> None:
    """Joins the other processes if the flags say so; before anything asks for a device.

    Raises ValueError as `join_cluster` does.
    """
    if _joins():
        join_cluster(flags.FLAGS.join_timeout, *_address())


def say(text: str) -> None:
    """Prints a line, once, however many processes have joined."""
    if jax.process_index() == 0:
        print(text)


def get_config() -> Config:
    """The validated config that the flags give."""
    return from_config_dict(flags.FLAGS.config)


def given(*names: str) -> dict[str, Any]:
    """The flags of these names that have a value, with it."""
    return {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].value is not None}


def get_profile() -> Profile | None:
    """The profile that the flags name, if any. Raises ValueError as `Profile.load` does."""
    path = flags.FLAGS.profile
    return None if path is None else Profile.load(Path(path).expanduser())


def get_policy() -> dict[str, Any]:
    """Arguments for `Model.compressed`, none if no policy is asked for.

    Raises ValueError for a size or a profile without a policy, and as `Profile.load` does.
    """
    if flags.FLAGS.policy is None:
        for name in given("ratio", "budget", "profile"):
            raise ValueError(f"--{name}: got no --policy for it; name one, as --policy=hack.")
        return {}
    return given("policy", "ratio", "budget") | {"profile": get_profile()}


def get_numbers(
    name: str, kind: type[int] | type[float], valid: Callable[[Any], bool], expected: str
) -> list:
    """The numbers of a list flag. Raises ValueError, with what is expected, for any others."""
    texts: list[str] = flags.FLAGS[name].value or []
    try:
        numbers = [kind(text) for text in texts]
    except ValueError:
        numbers = []
    known = len(numbers) > 0 and all(valid(number) for number in numbers)
    check(known, f"--{name}: got {','.join(texts)!r}, expected {expected}.")
    return numbers


def output_file(suffix: str) -> Path:
    """The file that `--out` names.

    Raises ValueError unless its name ends in `suffix` and a file can be written there.
    """
    name = flags.FLAGS.out
    path = Path(name).expanduser()
    folder = path.absolute().parent
    check(name.endswith(suffix), f"--out: got {name!r}, expected a name that ends in {suffix}.")
    check(not path.is_dir(), f"--out: {path} is a directory, expected a file.")
    check(folder.is_dir(), f"--out: {folder} is no directory; make it, or name another file.")
    return path


def run(
    main: Callable[[], None],
    define_flags: Callable[[], None] = lambda: None,
    *,
    times_compilation: bool = False,
) -> None:
    """Defines and parses the flags and calls `main`.

    Bad input ends the program with one sentence and exit code 2. A config file is looked for in
    the current directory, then among those of the package. A program that reports how long
    compiling takes says so by `times_compilation`: it finds and keeps no compiled programs.
    """
    app.define_help_flags()
    define_flags()
    if not times_compilation:
        flags.DEFINE_string("compilation_cache", None, "Folder of compiled programs; empty: none.")
    for flag in flags.FLAGS.get_flags_for_module(__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # --help shows it
    try:
        _parse(sys.argv)
        if times_compilation:
            jax.config.update("jax_enable_compilation_cache", False)
        else:
            _keep_programs()
        main()
    except ValueError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(describe_os_error(error))
    except KeyboardInterrupt:
        sys.exit("stopped")


def run_command(commands: Mapping[str, tuple[Callable[[], None], Callable[[], None]]]) -> None:
    """Runs the `main` and `define_flags` of the command that is the program's first argument."""
    named = len(sys.argv) > 1 and not sys.argv[1].startswith("-")
    command = sys.argv.pop(1) if named else ""
    if command in commands:
        run(*commands[command])
        return

    def refuse() -> None:
        raise ValueError(f"got the command {command!r}, expected one of {', '.join(commands)}.")

    # The command is what is wrong, not its flags.
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument.startswith("--help")]
    run(refuse)


def _address() -> tuple[str | None, int | None, int | None]:
    values = flags.FLAGS
    return values.coordinator, values.num_processes, values.process_id


def _joins() -> bool:
    """Whether the flags make this process one of several."""
    if "distributed" not in flags.FLAGS:
        return False
    return flags.FLAGS.distributed or any(value is not None for value in _address())


def _keep_programs() -> None:
    """Lets JAX keep what it compiles where the flags say; see the top of this file."""
    named = flags.FLAGS.compilation_cache
    if named == "":
        jax.config.update("jax_enable_compilation_cache", False)
    if named == "" or (named is None and ("JAX_COMPILATION_CACHE_DIR" in os.environ or _joins())):
        return
    try:
        folder = (_cache_folder() if named is None else Path(named).expanduser()).absolute()
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


def _cache_folder() -> Path:
    """Where compiled programs are kept unless the flag names a folder."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "mvar_jax" / "compiled"


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
