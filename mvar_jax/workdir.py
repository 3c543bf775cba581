"""A working directory: where a run keeps its config, checkpoints and log.

WORKDIR/config.json         the resolved config
WORKDIR/run.json            how far it is to train, and the names of what it learns from
WORKDIR/classes.json        the names of the classes
WORKDIR/checkpoints/        of the trunk
WORKDIR/metrics.jsonl       of the trunk's training, with what else `RunLog` writes
WORKDIR/tokenizer/          the same for the tokenizer

A shared model is a working directory too, with `model.safetensors` in place of `checkpoints/`.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from mvar_jax.checks import check, check_given
from mvar_jax.config import Config
from mvar_jax.config.tree import from_json, to_json
from mvar_jax.files import (
    BucketPath,
    copy_folder,
    draft_folder,
    is_whole,
    load_json,
    publish,
    user_path,
    write_text,
)

WEIGHTS = "model.safetensors"  # of a shared model
COMMITTED = "commit_success.txt"  # in a checkpoint, by Orbax
OWN_FILES = frozenset({"config.json", "run.json", "classes.json", "metrics.jsonl", WEIGHTS})
# All that sampling needs of a shared model, and all that is ever downloaded of one.
_SHARED = ("config.json", "run.json", "classes.json", WEIGHTS)
SHARED_FILES = (*_SHARED, *(f"tokenizer/{name}" for name in _SHARED))

# Settings that may change when a run goes on: how long and how it trains, what it runs on.
RESUMABLE = (
    "config.mesh",
    "config.training",
    "config.tokenizer_training",
    "config.codebook.warn_below",
    "config.sampling",
    "config.allow_untrained_tokenizer",
    "config.data.directory",
    "config.data.num_threads",
    "config.data.num_workers",
    "config.model.kernels",
    "config.model.remat",
    "config.model.scan",
)


@dataclass(frozen=True)
class RunRecord:
    """What a run was started as, besides its config.

    `tokenizer` is the checksum (`models.checksum`) of the tokenizer that a trunk learns the tokens
    of, empty for a tokenizer's own run; `perceptual` that of the weights of LPIPS that a tokenizer
    is trained by, empty without them. Of an adapter's run, `base` is the `name` of the working
    directory of the trunk that it adapts, and `base_checksum` the checksum of that trunk.
    """

    total_steps: int
    tokenizer: str = ""
    perceptual: str = ""
    base: str = ""
    base_checksum: str = ""

    def to_json(self) -> str:
        """The text of `run.json`."""
        return json.dumps(dataclasses.asdict(self))


@dataclass(frozen=True)
class Workdir:
    """The paths of one run, and what is written there by more than one program.

    Of a model on the Hugging Face Hub, `path` is in a cache, and `address` its address and commit.
    """

    path: Path
    address: str = ""

    @classmethod
    def of(cls, path: str | Path) -> "Workdir":
        """From a path as users write it. `hub.open_workdir` reads models of the Hub too.

        Raises ValueError for an empty one, or what is no path.
        """
        check(
            isinstance(path, (str, os.PathLike)),
            f"got {path!r} for a working directory, expected a path.",
        )
        check(str(path) != "", "got an empty name for a working directory, expected a path.")
        return cls(user_path(path).absolute())

    @classmethod
    def owns(cls, path: Path) -> bool:
        """Whether a file of that name in its folder is a run's own, which nothing may replace."""
        return path.name in OWN_FILES and (path.absolute().parent / "config.json").is_file()

    @property
    def name(self) -> str:
        """What it is found again by: its address on the Hub, or its path."""
        return self.address or str(self.path)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are saved."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """The file of the parameters, where the model is a shared one."""
        return self.path / WEIGHTS

    @property
    def is_shared(self) -> bool:
        """Whether parameters are in a file of `mvar_jax.share`, and no checkpoints."""
        return self.weights.is_file() and not self.checkpoints.exists()

    @property
    def tokenizer(self) -> "Workdir":
        """The tokenizer's own directory."""
        return Workdir(self.path / "tokenizer")

    @property
    def is_trained(self) -> bool:
        """Whether any checkpoint was saved, or a shared model is here."""
        return self.last_step is not None

    @property
    def last_step(self) -> int | None:
        """The step of the newest checkpoint, 0 of a shared model; None where there is neither."""
        if not is_whole(self.path):
            return None
        return next(iter(stored_steps(self.checkpoints)), 0 if self.is_shared else None)

    def record(self) -> RunRecord | None:
        """What the run was started as; None where nothing says it, as for imported weights.

        Raises ValueError when the file is not what was written.
        """
        file = self.path / "run.json"
        if not file.is_file():
            return None
        try:
            record = RunRecord(**load_json(file))
        except (ValueError, TypeError):
            record = None
        broken = f"{file}: is not the file that was written; put back a good copy."
        record = check_given(record, broken)
        names = (record.tokenizer, record.perceptual, record.base, record.base_checksum)
        check(
            type(record.total_steps) is int and all(isinstance(name, str) for name in names), broken
        )
        return record

    def save_record(self, record: RunRecord) -> None:
        """Remembers what the run was started as."""
        write_text(self.path / "run.json", record.to_json())

    def check_finished(self) -> None:
        """Raises ValueError when the run stopped before its last step, as far as it says."""
        record, step = self.record(), self.last_step
        check(
            record is None or step is None or step >= record.total_steps,
            f"{self.path}: its training stopped at step {step} of {record and record.total_steps}; "
            "finish it by the command that began it, or take it as it is by "
            "--config.allow_untrained_tokenizer=True.",
        )

    def config(self) -> Config:
        """The config that was saved. Raises ValueError where there is none, or a broken one."""
        file = self.path / "config.json"
        check(
            is_whole(self.path) or not file.is_file(),
            f"{self.path}: the process that copied it there was killed; run its command again.",
        )
        check(
            file.is_file(),
            f"{self.path}: holds no config.json, expected the working directory of a trained "
            "model; train one first (python -m mvar_jax.quickstart --workdir DIR).",
        )
        try:
            return from_json(file.read_bytes())
        except ValueError as error:
            sentence = str(error).rstrip(".")
            raise ValueError(f"{file}: {sentence}; put back a good copy.") from None

    def check_same(self, config: Config) -> None:
        """Checks that what was trained here, if anything, had the same config.

        How long to train and how to sample may change between runs, and everything before the
        first checkpoint. Raises ValueError when anything else differs. Writes nothing.
        """
        if self.is_trained and (self.path / "config.json").exists():
            _check_same(dataclasses.asdict(self.config()), dataclasses.asdict(config), self.path)

    def save_config(self, config: Config) -> None:
        """Writes the config, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "config.json", to_json(config))

    def check_same_classes(self, names: tuple[str, ...]) -> None:
        """Raises ValueError when a trunk was trained here on other classes, or in another order.

        Its labels are indices: they would mean other things from then on.
        """
        if not (self.is_trained and self.names_classes):
            return
        before = self.class_names(len(names))
        for index, (old, new) in enumerate(zip(before, names)):
            check(
                old == new,
                f"{self.path}: was trained with {old!r} as class {index}, which is {new!r} in the "
                "data now; give the classes their old names and order, or start another run "
                "(--init takes this one's weights along).",
            )

    def save_class_names(self, names: tuple[str, ...]) -> None:
        """Remembers the names of the classes, in the order of their indices."""
        write_text(self.path / "classes.json", json.dumps(list(names)))

    @property
    def names_classes(self) -> bool:
        """Whether the names of the classes were saved."""
        return (self.path / "classes.json").is_file()

    def class_names(self, count: int) -> tuple[str, ...]:
        """The names of the classes; their indices where none were saved.

        Raises ValueError when the saved names are not `count`.
        """
        file = self.path / "classes.json"
        if not self.names_classes:
            return tuple(str(i) for i in range(count))
        try:
            names = load_json(file)
        except ValueError:
            names = None
        check(
            isinstance(names, list) and len(names) == count,
            f"{file}: expected a list of {count} names, one a class; put back a good copy.",
        )
        return tuple(map(str, names))

    def check_adopts(self, other: "Workdir") -> None:
        """Raises ValueError when another run has no trained tokenizer, or this one has its own."""
        check(
            other.tokenizer.is_trained,
            f"{other.path}: holds no trained tokenizer; name a working directory that "
            "python -m mvar_jax.train_tokenizer filled.",
        )
        check(
            not is_whole(self.tokenizer.path),
            f"{self.tokenizer.path}: already holds a tokenizer, trained or begun; go on with it by "
            "python -m mvar_jax.train_tokenizer, or use another --workdir.",
        )

    def check_tokenizer_settings(self, config: Config) -> None:
        """Raises ValueError when the settings of the tokenizer here are not the config's.

        Self-correction may differ: only the trunk's training reads it.
        """
        check(
            (self.tokenizer.path / "config.json").is_file(),
            f"{self.path}: holds no tokenizer; put back {self.tokenizer.path}, train one by "
            "python -m mvar_jax.train_tokenizer, or name another run's by --tokenizer.",
        )
        saved = dataclasses.asdict(self.tokenizer.config().tokenizer)
        wanted = dataclasses.asdict(config.tokenizer)
        for name, value in wanted.items():
            check(
                saved[name] == value or name in ("flip_rate", "flip_scales"),
                f"{self.tokenizer.path}: holds a tokenizer of tokenizer.{name}={saved[name]!r}, "
                f"but the config has {value!r}; use the config that it was trained with, or "
                "another --workdir.",
            )

    def adopt_tokenizer(self, other: "Workdir") -> None:
        """Copies another run's tokenizer here, so that this directory is whole by itself.

        The copy is there whole or not at all. Raises ValueError as `check_adopts` does.
        """
        self.check_adopts(other)
        with draft_folder(self.tokenizer.path) as draft:
            copy_folder(other.tokenizer.path, draft)
            publish(draft, self.tokenizer.path)


def stored_steps(directory: Path) -> list[int]:
    """The steps saved in a run's `checkpoints/`, finished or damaged, newest first.

    On a disk a folder gets the name of its step when it is complete, in a bucket it has it before:
    there Orbax writes the file `COMMITTED` last.
    """
    if isinstance(directory, BucketPath):
        found = [path.parent.name for path in directory.glob(f"*/{COMMITTED}")]
    else:
        found = [path.name for path in directory.glob("*")]
    return sorted((int(name) for name in found if name.isdigit()), reverse=True)


def _check_same(old: dict, new: dict, path: Path, *, prefix: str = "config") -> None:
    for name, value in new.items():
        if f"{prefix}.{name}" in RESUMABLE:
            continue
        if isinstance(value, dict) and isinstance(old[name], dict):
            _check_same(old[name], value, path, prefix=f"{prefix}.{name}")
            continue
        check(
            old[name] == value,
            f"{path}: was begun with {prefix}.{name}={old[name]!r}, got {value!r}; use the "
            "same value to resume, or another --workdir.",
        )
