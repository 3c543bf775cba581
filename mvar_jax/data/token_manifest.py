"""The manifest of a directory of tokens: how they were computed, and which files hold them.

DIR/plan.json                               while it is being made: how
DIR/tokens-00000-of-00003.array_record      the shards, each complete as soon as it has its name
DIR/manifest.json                           how, and the shards; written last
"""

import dataclasses
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from mvar_jax.checks import check
from mvar_jax.config import DataConfig, TokenizerConfig
from mvar_jax.config.tree import from_config_dict
from mvar_jax.data.token_record import TokenRecord
from mvar_jax.files import check_unused, load_json, write_text

MANIFEST, PLAN = "manifest.json", "plan.json"
SHARD_NAME = re.compile(r"tokens-\d{5,}-of-\d{5,}\.array_record")


@dataclass(frozen=True)
class Shard:
    """A file of records, its checksum in hexadecimal digits."""

    file: str
    records: int
    sha256: str

    def __post_init__(self):
        check(
            SHARD_NAME.fullmatch(self.file) is not None and self.records >= 0,
            f"shards: got {self.file!r} of {self.records} records, expected "
            "tokens-NNNNN-of-NNNNN.array_record.",
        )


@dataclass(frozen=True)
class TokenManifest:
    """How tokens were made; with `shards`, where they are.

    `tokenizer_checksum` names its parameters, `tokenizer` its config with the scales and the
    vocabulary. `data` names the dataset and how its images were prepared, `examples` counts the
    images of the split, those that cannot be read too; each of the others has one record, of
    `crops` token pyramids.
    """

    tokenizer_checksum: str
    tokenizer: TokenizerConfig
    data: DataConfig
    split: str
    examples: int
    crops: int
    seed: int
    class_names: tuple[str, ...]
    shards: tuple[Shard, ...] = ()

    @property
    def records(self) -> int:
        """The number of records in all shards."""
        return sum(shard.records for shard in self.shards)

    @property
    def record(self) -> TokenRecord:
        """The form of the records."""
        tokenizer, classes = self.tokenizer, len(self.class_names)
        return TokenRecord(self.crops, tokenizer.schedule.total, tokenizer.vocabulary, classes)

    @classmethod
    def load(cls, file: Path) -> "TokenManifest":
        """From a file. Raises ValueError where there is none, and for any other content."""
        check(
            file.is_file(),
            f"{file}: found no such file, expected what python -m mvar_jax.tokenize writes when it "
            "is done; run it again with the same arguments.",
        )
        try:
            values = load_json(file)
            names = {field.name for field in dataclasses.fields(cls)}
            check(isinstance(values, dict) and values.keys() == names, "its entries are others.")
            return from_config_dict(values, cls)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{file}: is damaged ({error}), expected what python -m mvar_jax.tokenize writes; "
                "make the tokens again."
            ) from None

    def save(self, file: Path) -> None:
        """Writes the file, whole or not at all."""
        write_text(file, json.dumps(dataclasses.asdict(self), indent=1))


def claim(directory: Path, plan: TokenManifest) -> TokenManifest | None:
    """Makes a directory that of a tokenization, or resumes an interrupted one there.

    Returns its manifest if it is complete. Raises ValueError where anything else lies already.
    """
    for name in (MANIFEST, PLAN):
        if (directory / name).exists():
            found = TokenManifest.load(directory / name)
            _check_same(replace(found, shards=()), plan, directory)
            return found if name == MANIFEST else None
    check_unused(directory)
    directory.mkdir(parents=True, exist_ok=True)
    plan.save(directory / PLAN)
    return None


def _check_same(found: TokenManifest, plan: TokenManifest, directory: Path) -> None:
    for field in dataclasses.fields(TokenManifest):
        old, new = getattr(found, field.name), getattr(plan, field.name)
        check(
            old == new,
            f"--out: {directory} holds tokens made with {field.name}={old!r}, got {new!r}; name "
            "another folder.",
        )
