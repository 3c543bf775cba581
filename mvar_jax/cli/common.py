"""The flags that several programs have, and what their values mean."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import flags, logging
from ml_collections import config_flags

from mvar_jax.cache import EVICTING, Profile
from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.files import check_writable, folder_exists, input_path, naming_errors, user_path
from mvar_jax.mesh.processes import join_cluster
from mvar_jax.workdir import Workdir

FAR = 2  # as a factor between batch sizes
MOST_INDICES = 2**24  # that are listed in memory, each with what belongs to it


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


def define_adapters() -> None:
    """Defines `--adapter`; see `get_adapters`."""
    flags.DEFINE_multi_string("adapter", [], "Directory of an adapter to merge, or DIR:WEIGHT.")


def define_profile() -> None:
    """Defines `--profile`; see `get_profile`."""
    flags.DEFINE_string("profile", None, "What python -m mvar_jax.calibrate measured.")


def define_policy() -> None:
    """Defines the flags that ask for a policy of cache compression; see `get_policy`."""
    flags.DEFINE_string("policy", None, "How the attention cache is compressed, as hack.")
    flags.DEFINE_float("ratio", None, "Share of all tokens that the policy evicts.")
    flags.DEFINE_integer("budget", None, "Tokens a head that it keeps, in place of --ratio.")
    define_profile()


def define_policies() -> None:
    """Defines `--policies`, names of several, by default of all that may drop tokens."""
    flags.DEFINE_list("policies", list(EVICTING), "As hack, scalekv@before, hack+int8, full+int8.")


def define_json(what: str) -> None:
    """Defines `--json`, the file that `what` is written to; see `json_file`."""
    flags.DEFINE_string("json", None, f"File to write {what} to.")


def json_file() -> Path | None:
    """The file that `--json` names. Raises ValueError or OSError if none can be written there."""
    name = flags.FLAGS.json
    if name is None:
        return None
    path = user_path(name)
    check(
        path.suffix == ".json" and not path.is_dir() and folder_exists(path.absolute().parent),
        f"--json: got {name!r}, expected a name that ends in .json, in a folder that exists.",
    )
    check_writable(path)
    return path


def join() -> None:
    """Joins the other processes if the flags say so; before anything asks for a device.

    Raises ValueError as `join_cluster` does.
    """
    if joins():
        join_cluster(flags.FLAGS.join_timeout, *_address())


def say(text: str) -> None:
    """Prints a line, once, however many processes have joined."""
    if jax.process_index() == 0:
        print(text, flush=True)


def get_config() -> Config:
    """The validated config that the flags give.

    Warns of a batch size far from the config file's, since learning rates scale with it.
    """
    config = from_config_dict(flags.FLAGS.config)
    flag = flags.FLAGS["config"]
    if "batch_size" in config_flags.get_override_values(flag):
        own = load_config(config_flags.get_config_filename(flag)).batch_size
        if not 1 / FAR < config.batch_size / own < FAR:
            logging.warning(
                "batch_size is %d, in the config file %d: learning rates change by the same "
                "factor, which may be too much; set optimizer.learning_rate and "
                "tokenizer_optimizer.learning_rate (given per 256 images) against it.",
                *(config.batch_size, own),
            )
    return config


def given(*names: str) -> dict[str, Any]:
    """The flags of these names that have a value, with it."""
    return {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].value is not None}


def get_verify() -> bool:
    """Whether a checkpoint is to be refused that has no seal to verify its files by."""
    return flags.FLAGS.verify


def get_adapters() -> dict[str, float]:
    """The working directories of the adapters that the flags name, and how much of each.

    Raises ValueError for one that is named twice.
    """
    adapters: dict[str, float] = {}
    for text in flags.FLAGS.adapter:
        path, weight = _weighted(text)
        check(
            path not in adapters,
            f"--adapter: got {path} twice, expected it once; give its weight, as {path}:2.",
        )
        adapters[path] = weight
    return adapters


def _weighted(text: str) -> tuple[str, float]:
    """The parts of DIR:WEIGHT, or DIR and 1."""
    path, _, weight = text.rpartition(":")
    try:
        return path, float(weight)
    except ValueError:
        return text, 1.0


def get_profile() -> Profile | None:
    """The profile that the flags name, if any. Raises ValueError as `Profile.load` does."""
    path = flags.FLAGS.profile
    return None if path is None else Profile.load(input_path(path))


def get_policy() -> dict[str, Any]:
    """Arguments for `Model.compressed`, none if no policy is asked for.

    Raises ValueError for a size or a profile without a policy, and as `Profile.load` does.
    """
    if flags.FLAGS.policy is None:
        for name in given("ratio", "budget", "profile"):
            raise ValueError(f"--{name}: got no --policy for it; name one, as --policy=hack.")
        return {}
    return given("policy", "ratio", "budget") | {"profile": get_profile()}


def get_numbers(name: str, valid: Callable[[float], bool], expected: str) -> list[float]:
    """The numbers of a list flag. Raises ValueError, with what is expected, for any others."""
    texts: list[str] = flags.FLAGS[name].value or []
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        numbers = []
    known = len(numbers) > 0 and all(valid(number) for number in numbers)
    check(known, f"--{name}: got {','.join(texts)!r}, expected {expected}.")
    return numbers


def get_indices(name: str, count: int) -> list[int]:
    """The indices below `count` that a list flag names, as 3,12-15; all where it has no value.

    Raises ValueError for anything else, and for more than `MOST_INDICES`.
    """
    given = flags.FLAGS[name].value
    ranges = [range(count)] if given is None else _ranges(name, given, count)
    total = sum(part.stop - part.start for part in ranges)
    check(
        total <= MOST_INDICES,
        f"--{name}: got {total} of them, expected at most {MOST_INDICES} at once; name fewer.",
    )
    return [index for part in ranges for index in part]


def _ranges(name: str, texts: list[str], count: int) -> list[range]:
    """The ranges of indices below `count` that texts name. Raises ValueError for others."""
    found = [re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip()) for text in texts]
    ranges = [range(int(pair[1]), int(pair[2] or pair[1]) + 1) for pair in found if pair]
    check(
        len(ranges) == len(texts) > 0 and all(part.start < part.stop <= count for part in ranges),
        f"--{name}: got {','.join(texts)!r}, expected numbers from 0 to {count - 1} and ranges of "
        "them, as 3,12-15.",
    )
    return ranges


def output_file(*suffixes: str) -> Path:
    """The file that `--out` names.

    Raises ValueError unless its name ends in one of `suffixes` and its folder exists, and OSError
    unless a file can be written there. The suffix "/" is for a program that takes folders too.
    """
    name = flags.FLAGS.out
    path = user_path(name)
    check(
        path.suffix.lower() in suffixes,
        f"--out: got {name!r}, expected a name that ends in {' or '.join(suffixes)}.",
    )
    check(not path.is_dir(), f"--out: {name} is a directory, expected a file.")
    check(
        folder_exists(path.absolute().parent),
        f"--out: got {name!r}, whose folder is no directory; make it, or name another file.",
    )
    check(
        not Workdir.owns(path),
        f"--out: {name} belongs to the run in its folder, expected another file; name one.",
    )
    check_writable(path)
    return path


def output_folder() -> Path | None:
    """The folder that `--out` names, which may be missing; None where it names a file.

    The name of a folder ends in a slash, unless it exists. Raises OSError unless files can be
    written there.
    """
    name = flags.FLAGS.out
    path = user_path(name)
    if not (name.endswith("/") or path.is_dir()):
        return None
    file = path / "image"
    with naming_errors(path, file):
        check_writable(file)
    return path


def joins() -> bool:
    """Whether the flags make this process one of several."""
    if "distributed" not in flags.FLAGS:
        return False
    return flags.FLAGS.distributed or any(value is not None for value in _address())


def _address() -> tuple[str | None, int | None, int | None]:
    values = flags.FLAGS
    return values.coordinator, values.num_processes, values.process_id
