"""Features computed ahead: a folder that is written batch by batch and read as a map.

    manifest.json   encoder, its weights' checksum, width, dtype, counts, the checksum of the data
    features.bin    the vectors of all tokens of all prompts in order, row-major, little-endian
    prompts.jsonl   a line for every prompt: its text and how many tokens it has

It holds numbers and texts only; reading it executes nothing.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import ml_dtypes
import numpy as np

from mvar_jax.array_types import Float, Int
from mvar_jax.checks import check
from mvar_jax.files import (
    check_writable,
    draft_folder,
    is_whole,
    load_json,
    local_copy,
    parse_json,
    publish,
)
from mvar_jax.text.encoder import TextEncoder
from mvar_jax.text.features import TextFeatures, pack, padded_length
from mvar_jax.text.prompts import NO_PROMPT, check_prompts

FORMAT = "mvar_jax text features 1"
MANIFEST, DATA, PROMPTS = "manifest.json", "features.bin", "prompts.jsonl"
PROMPTS_AT_ONCE = 256
DTYPES = {
    "float32": np.dtype("<f4"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype("<f2"),
}


@dataclass(frozen=True)
class FeatureManifest:
    """What is said of a folder of features."""

    encoder: str  # its name
    encoder_checksum: str  # of its weights
    width: int
    max_length: int
    dtype: str  # one of DTYPES
    prompts: int
    tokens: int  # of all prompts
    data_checksum: str  # the SHA-256 of features.bin and then prompts.jsonl
    format: str = FORMAT

    @classmethod
    def load(cls, folder: Path) -> "FeatureManifest":
        """Reads a folder's manifest. Raises ValueError where there is none that is sound."""
        try:
            manifest = cls(**load_json(folder / MANIFEST))
            counts = (manifest.width, manifest.max_length, manifest.prompts, manifest.tokens)
            sound = manifest.format == FORMAT and manifest.dtype in DTYPES
            sound = sound and all(type(count) is int and count > 0 for count in counts)
        except (OSError, TypeError, ValueError):
            sound = False
        check(sound, f"{folder}: not a folder that python -m mvar_jax.encode_text wrote.")
        return manifest


@dataclass(frozen=True)
class StoredFeatures:
    """Features that were computed ahead; a text encoder for the prompts that it holds."""

    manifest: FeatureManifest
    prompts: tuple[str, ...]
    lengths: Int[np.ndarray, "prompts"]
    data: Float[np.ndarray, "total width"]  # of all tokens, mapped from the file

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def name(self) -> str:
        """The encoder that made them."""
        return self.manifest.encoder

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.manifest.width

    @property
    def max_length(self) -> int:
        """Tokens of the longest prompt that the encoder takes."""
        return self.manifest.max_length

    def rows(self, places: Sequence[int]) -> TextFeatures:
        """The features of the prompts at these places, padded to one of `features.LENGTHS`."""
        rows = [self.data[self._starts[i] : self._starts[i + 1]] for i in places]
        return pack(rows, padded_length(max(map(len, rows), default=0)), self.width)

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Looks prompts up. Raises ValueError for one that is not there, and for none."""
        return self.rows(self._find(prompts))

    def lengths_of(self, prompts: Sequence[str]) -> Int[np.ndarray, "prompts"]:
        """How many tokens every prompt has. Raises ValueError as `encode` does."""
        return self.lengths[self._find(prompts)]

    def _find(self, prompts: Sequence[str]) -> list[int]:
        check_prompts(prompts)
        for prompt in prompts:
            check(
                prompt in self._places,
                f"prompts: {prompt[:80]!r} is not among the {len(self)} prompts whose features are "
                "stored; encode it too, by python -m mvar_jax.encode_text.",
            )
        return [self._places[prompt] for prompt in prompts]

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    @cached_property
    def _places(self) -> dict[str, int]:
        return {prompt: place for place, prompt in enumerate(self.prompts)}


def check_new(folder: Path) -> None:
    """Raises ValueError where there is something at `folder`, OSError where it cannot be made."""
    check(not is_whole(folder), f"--out: {folder} exists, expected a new folder; name another one.")
    check_writable(folder)


def write_features(
    folder: Path,
    encoder: TextEncoder,
    prompts: Iterable[str],
    *,
    dtype: str = "float32",
    encoder_checksum: str = "",
    done: Callable[[int], None] = lambda count: None,
) -> FeatureManifest:
    """Encodes prompts and writes their features to a new folder, whole or not at all.

    `PROMPTS_AT_ONCE` are in memory at a time; `done` is called with how many of them are written.
    Raises ValueError for no prompt, and for what exists already.
    """
    check(dtype in DTYPES, f"dtype: got {dtype!r}, expected one of {', '.join(DTYPES)}.")
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lengths: list[int] = []
    rest = iter(prompts)
    with draft_folder(folder) as draft:
        draft.mkdir()
        with (
            (draft / DATA).open("wb") as data,
            (draft / PROMPTS).open("w", encoding="utf-8") as texts,
        ):
            while batch := list(islice(rest, PROMPTS_AT_ONCE)):
                made = encoder.encode(batch)
                data.write(made.tokens().astype(DTYPES[dtype]).tobytes())
                for prompt, length in zip(batch, made.lengths.tolist()):
                    texts.write(json.dumps({"prompt": prompt, "tokens": length}) + "\n")
                    lengths.append(length)
                done(len(batch))
        check(len(lengths) > 0, NO_PROMPT)
        manifest = FeatureManifest(
            encoder=encoder.name,
            encoder_checksum=encoder_checksum,
            width=encoder.width,
            max_length=encoder.max_length,
            dtype=dtype,
            prompts=len(lengths),
            tokens=sum(lengths),
            data_checksum=_checksum(draft),
        )
        (draft / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
        publish(draft, folder)
    return manifest


def holds_features(folder: Path) -> bool:
    """Whether a folder looks as one that `write_features` wrote."""
    return (folder / MANIFEST).is_file() and (folder / DATA).is_file()


def read_features(folder: Path, *, verify: bool = False) -> StoredFeatures:
    """Maps the features of a folder; nothing but the prompts is loaded.

    With `verify` all of it is read once, and compared with its checksum. Raises ValueError for a
    folder that `write_features` did not write, and for one that was changed since.
    """
    folder = local_copy(folder)
    manifest = FeatureManifest.load(folder)
    texts, lengths = _read_prompts(folder / PROMPTS)
    dtype = DTYPES[manifest.dtype]
    size = (folder / DATA).stat().st_size
    check(
        len(texts) == manifest.prompts
        and int(lengths.sum()) == manifest.tokens
        and size == manifest.tokens * manifest.width * dtype.itemsize,
        f"{folder}: its files do not fit its {MANIFEST}; it is incomplete or was changed, encode "
        "the prompts again.",
    )
    check(
        not verify or _checksum(folder) == manifest.data_checksum,
        f"{folder}: its files were changed since they were written; encode the prompts again.",
    )
    shape = (manifest.tokens, manifest.width)
    return StoredFeatures(manifest, texts, lengths, np.memmap(folder / DATA, dtype, "r", 0, shape))


def _read_prompts(file: Path) -> tuple[tuple[str, ...], np.ndarray]:
    texts, lengths = [], []
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                row = parse_json(line)
                texts.append(str(row["prompt"]))
                lengths.append(int(row["tokens"]))
        sound = min(lengths, default=0) > 0
    except (KeyError, TypeError, ValueError):
        sound = False
    check(sound, f"{file}: damaged; encode the prompts again.")
    return tuple(texts), np.array(lengths, np.int32)


def _checksum(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (DATA, PROMPTS):
        with (folder / name).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
