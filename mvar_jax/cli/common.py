"""The flags that several programs have, and what their values mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from mvar_jax.cache import Profile
from mvar_jax.checks import check, check_place
from mvar_jax.config import Config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.mesh.processes import join_cluster


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


def define_verify() -> None:
    """Defines `--verify`; see `get_verify`."""
    flags.DEFINE_bool("verify", False, "Refuse checkpoints without a seal, which are unverified.")


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
    if joins():
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


def get_verify() -> bool:
    """Whether a checkpoint is to be refused that has no seal to verify its files by."""
    return flags.FLAGS.verify


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
    texts = flags.FLAGS[name].value
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
    check(name.endswith(suffix), f"--out: got {name!r}, expected a name that ends in {suffix}.")
    check(not path.is_dir(), f"--out: {path} is a directory, expected a file.")
    check_place(path)
    return path


def joins() -> bool:
    """Whether the flags make this process one of several."""
    if "distributed" not in flags.FLAGS:
        return False
    return flags.FLAGS.distributed or any(value is not None for value in _address())


def _address() -> tuple[str | None, int | None, int | None]:
    values = flags.FLAGS
    return values.coordinator, values.num_processes, values.process_id
