"""What the programs share: flags, the config flag, and errors as one sentence."""

import os
import re
import sys
from collections.abc import Callable

import jax
from absl import app, flags
from ml_collections import config_flags

from mvar_jax.checks import describe_os_error
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


def join() -> None:
    """Joins the other processes if the flags say so; before anything asks for a device.

    Raises ValueError as `join_cluster` does.
    """
    values = flags.FLAGS
    address = (values.coordinator, values.num_processes, values.process_id)
    if values.distributed or any(value is not None for value in address):
        join_cluster(values.join_timeout, *address)


def say(text: str) -> None:
    """Prints a line, once, however many processes have joined."""
    if jax.process_index() == 0:
        print(text)


def get_config() -> Config:
    """The validated config that the flags give."""
    return from_config_dict(flags.FLAGS.config)


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; bad input ends with one sentence and exit code 2.

    A config file is looked for in the current directory, then among those of the package.
    """
    app.define_help_flags()
    try:
        _parse(sys.argv)
        main()
    except ValueError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(describe_os_error(error))
    except KeyboardInterrupt:
        sys.exit("stopped")


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
    if text.endswith("must have a value other than None."):
        name = re.search(r"--\w+", text)[0]
        return f"{name} is missing, expected a value for it."
    text = re.sub(r"^flag --[^ ]*: (Flag |Error whilst)", r"\1", text)
    return re.sub(r"^\w+Error: ", "", text.rpartition("\n")[2]) or type(error).__name__


def _joined(arguments: list[str]) -> list[str]:
    """Arguments with "--config FILE" written as "--config=FILE"."""
    if "--config" not in arguments[:-1]:
        return arguments
    place = arguments.index("--config")
    joined = f"--config={arguments[place + 1]}"
    return [*arguments[:place], joined, *arguments[place + 2 :]]
