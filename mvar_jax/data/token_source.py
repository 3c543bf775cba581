"""Token pyramids by index, as `python -m mvar_jax.tokenize` wrote them."""

from concurrent.futures import ThreadPoolExecutor

from array_record.python.array_record_data_source import ArrayRecordDataSource

from mvar_jax.array_types import Example
from mvar_jax.checks import check, first_line
from mvar_jax.config import TokenizerConfig
from mvar_jax.data.token_manifest import MANIFEST, TokenManifest
from mvar_jax.files import file_checksum, input_path

REMEDY = "make the tokens again (python -m mvar_jax.tokenize)"


class TokenSource:
    """Random access to the token pyramids of one split.

    `source[i]` is `{"tokens": int32 [crops, total], "label": int32}`. Raises ValueError for a
    directory that is not complete, shards that are missing or of another length, and records that
    are damaged.
    """

    def __init__(self, directory: str):
        self.directory = input_path(directory)
        self.manifest = TokenManifest.load(self.directory / MANIFEST)
        self._record = self.manifest.record
        shards = [shard for shard in self.manifest.shards if shard.records]
        check(len(shards) > 0, f"{self.directory}: holds no tokens, expected some; {REMEDY}.")
        try:
            self._records = ArrayRecordDataSource([str(self.directory / s.file) for s in shards])
        except Exception as error:  # readers of files raise many kinds over damage
            raise ValueError(f"{self._damaged('a shard', first_line(error))}") from error
        counts = len(self._records), self.manifest.records
        check(
            counts[0] == counts[1],
            self._damaged("a shard", f"{counts[0]} records in all, expected {counts[1]}"),
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per label."""
        return self.manifest.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"TokenSource({str(self.directory)!r}, {len(self)} records)"

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")  # also ends a loop over the source
        try:
            return self._record.unpack(self._records[index])
        except Exception as error:
            raise ValueError(self._damaged(f"record {index}", first_line(error))) from error

    def check(self, config: TokenizerConfig, names: tuple[str, ...]) -> None:
        """Reads all shards, to find every change of them.

        Raises ValueError for tokens of another tokenizer than the one of this config and of one of
        these names (`models.checksum`), and for a shard that is not the file that was written.
        """
        for name, used in vars(self.manifest.tokenizer).items():
            expected = getattr(config, name)
            check(
                used == expected,
                f"{self.directory}: its tokens were made with tokenizer.{name}={used!r}, expected "
                f"{expected!r}; {REMEDY}, or change the config.",
            )
        made_by = self.manifest.tokenizer_checksum
        check(
            made_by in names,
            f"{self.directory}: its tokens were made by another tokenizer (checksum "
            f"{made_by[:12]}, expected {names[0][:12]}); {REMEDY}, or name its run by --tokenizer.",
        )
        files = [self.directory / shard.file for shard in self.manifest.shards]
        with ThreadPoolExecutor(8) as pool:
            for shard, found in zip(self.manifest.shards, pool.map(file_checksum, files)):
                check(found == shard.sha256, self._damaged(shard.file, "its checksum is another"))

    def _damaged(self, what: str, cause: str) -> str:
        return f"{self.directory}: {what} is damaged ({cause}), expected it whole; {REMEDY}."
