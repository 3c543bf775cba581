"""Turns the images of a split into files of tokens, on one host or on many.

The split is cut into shards of `SHARD_IMAGES` images, and host i of N writes every N-th shard from
the i-th. A batch never spans two shards and has one shape on every device, so that a shard is the
same whichever host writes it and however often the work was interrupted.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, UInt8

from mvar_jax.array_types import Params, batch_size
from mvar_jax.checks import check
from mvar_jax.config import Config
from mvar_jax.data.crops import CropSource
from mvar_jax.data.pipeline import load_images, normalize
from mvar_jax.data.token_manifest import MANIFEST, PLAN, Shard, TokenManifest, claim
from mvar_jax.data.token_record import TokenRecord
from mvar_jax.files import UNFINISHED, file_checksum, local_copy, written_whole
from mvar_jax.mesh.processes import on_first_process
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.models.checksum import tokenizer_names
from mvar_jax.tokenizers import build_tokenizer
from mvar_jax.training.weights import load_tokenizer
from mvar_jax.workdir import Workdir

SHARD_IMAGES = 4096
ROWS = 32  # images on a device at a time
Encode = Callable[[UInt8[np.ndarray, "rows height width 3"]], Int[np.ndarray, "rows total"]]


def tokenize_split(
    config: Config, workdir: Workdir, out: Path, *, split: str, crops: int
) -> TokenManifest:
    """Writes the tokens of `crops` crops of every image to `out`, or resumes writing them.

    One crop is the middle of the image, several are drawn as the config's data and seed say.
    Images that cannot be read are left out. Raises ValueError for bad data, a missing tokenizer,
    a folder that holds anything but these tokens, and tokens of bits, which have no format.
    """
    check(
        config.tokenizer.quantizer == "vq",
        f"tokenizer.quantizer: got {config.tokenizer.quantizer!r}, expected 'vq', as tokens of "
        "bits are not stored; train on the images.",
    )
    if not config.allow_untrained_tokenizer:
        workdir.tokenizer.check_finished()
    params = load_tokenizer(config, workdir)
    data, size = replace(config.data, tokens="", validation_tokens=""), config.tokenizer.image_size
    source = load_images(data, size, split)
    images = CropSource(source, data, size, crops=crops, seed=config.seed)
    plan = TokenManifest(
        tokenizer_checksum=tokenizer_names(params)[0],
        tokenizer=config.tokenizer,
        data=replace(data, num_threads=0, num_workers=0),
        split=split,
        examples=len(source),
        crops=crops,
        seed=config.seed,
        class_names=source.class_names,
    )
    complete = on_first_process(lambda: "yes" if claim(out, plan) else None)
    if complete:
        return TokenManifest.load(out / MANIFEST)
    files = shard_files(out, len(source))
    _write_shards(files, images, make_encoder(config, params, crops), record=plan.record)
    on_first_process(partial(_conclude, plan, files, out))
    return TokenManifest.load(out / MANIFEST)


def shard_files(out: Path, examples: int) -> list[Path]:
    """The files of all shards, in the order of their images."""
    count = -(-examples // SHARD_IMAGES)
    return [out / f"tokens-{k:05d}-of-{count:05d}.array_record" for k in range(count)]


def make_encoder(config: Config, params: Params, crops: int) -> tuple[int, Encode]:
    """The number of images per batch, and a function that tokenizes the crops of a batch.

    Every device of this host takes the same number of crops, `ROWS` or few more.
    """
    tokenizer, devices = build_tokenizer(config.tokenizer), jax.local_devices()
    mesh = Mesh(np.array(devices), ("batch",))
    by_rows = NamedSharding(mesh, PartitionSpec("batch"))
    variables = jax.device_put({"params": params}, NamedSharding(mesh, PartitionSpec()))
    images = -(-ROWS // crops) * len(devices)

    @jax.jit
    def program(variables, pixels):
        features = tokenizer.apply(variables, pixels, method="encode")
        return tokenizer.apply(variables, features, method="training_pair")[1]

    def encode(pixels):
        missing = images * crops - len(pixels)
        padded = np.pad(normalize(pixels), ((0, missing), (0, 0), (0, 0), (0, 0)))
        tokens = program(variables, jax.device_put(padded, by_rows))
        return np.asarray(tokens)[: len(pixels)]

    return images, encode


def _write_shards(
    files: list[Path], images: CropSource, encoder: tuple[int, Encode], *, record: TokenRecord
) -> None:
    """Writes this host's shards, except those that are there."""
    images_at_once, encode = encoder
    own = range(jax.process_index(), len(files), jax.process_count())
    spans = {k: (k * SHARD_IMAGES, min((k + 1) * SHARD_IMAGES, len(images))) for k in own}
    done = sum(stop - start for k, (start, stop) in spans.items() if files[k].exists())
    total = sum(stop - start for start, stop in spans.values())
    with TaskProgress("tokenize", total, "image", done=done) as progress:
        for k, (start, stop) in spans.items():
            if files[k].exists():
                continue
            with _shard_writer(files[k]) as writer:
                for batch in images.batches(start, stop, images_at_once):
                    for row in _records(batch, encode, record):
                        writer.write(row)
                    progress.advance(batch_size(batch))
            done += stop - start
            progress.reach(done)  # with those that cannot be read


@contextlib.contextmanager
def _shard_writer(file: Path) -> Iterator[ArrayRecordWriter]:
    """A writer of a shard, whose file is there whole or not at all.

    If two processes write the same shard by mistake, neither harms the other.
    """
    with written_whole(file, shared=True) as draft:
        writer = ArrayRecordWriter(str(draft), "group_size:1")  # one record is read at a time
        with contextlib.closing(writer):
            yield writer


def _records(batch: dict[str, np.ndarray], encode: Encode, record: TokenRecord) -> Iterator[bytes]:
    """The records of a batch of crops `[images, crops, height, width, 3]`."""
    images = batch["image"]
    tokens = encode(images.reshape(-1, *images.shape[2:])).reshape(*images.shape[:2], -1)
    for pyramids, label in zip(tokens, batch["label"]):
        yield record.pack(pyramids, int(label))


def _conclude(plan: TokenManifest, files: list[Path], out: Path) -> None:
    """Writes the manifest over all shards."""
    shards = []
    for file in files:
        copy = local_copy(file)
        reader = ArrayRecordReader(str(copy))
        shards.append(Shard(file.name, reader.num_records(), file_checksum(copy)))
        reader.close()
    replace(plan, shards=tuple(shards)).save(out / MANIFEST)
    for left in (out / PLAN, *out.glob(f"tokens-*{UNFINISHED}")):  # of interrupted processes
        left.unlink(missing_ok=True)
