"""Opens a split of labelled images: of a folder, or of a dataset that TFDS prepared."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import read_only_builder

from mvar_jax.checks import check, first_line
from mvar_jax.data.caption_lines import scan_lines
from mvar_jax.data.captions import scan_captions
from mvar_jax.data.digits import Digits
from mvar_jax.data.folder import scan_folder
from mvar_jax.data.image_source import ImageSource, Records
from mvar_jax.data.imagenet import Imagenet, find_tars
from mvar_jax.data.scene_captions import CaptionedScenes
from mvar_jax.data.shapes import Shapes, ShapesConfig
from mvar_jax.files import BUCKETS, input_path

OWN_BUILDERS = ("digits", "shapes/SIDE", "imagenet")
FOLDER = "folder"
CAPTIONED = "with captions"
SCANS: dict[str, Callable[[Path, str], Records]] = {
    FOLDER: scan_captions,
    "jsonl": scan_lines,
}
"""What opens a folder of captioned images, by the name of the data."""


@dataclass(frozen=True)
class Split:
    """An open split of labelled images.

    `dataset` is its name in messages. `passed_over` are the files of a folder that are not named as
    images.
    """

    dataset: str
    name: str
    records: Records
    class_names: tuple[str, ...]
    passed_over: tuple[str, ...] = ()


def draws_images(name: str) -> bool:
    """Whether the library has the images itself; `directory` is then only where they are kept."""
    return name.partition("/")[0] in ("digits", "shapes")


def load_source(
    name: str, split: str, directory: str = "", *, captions: bool = False
) -> ImageSource:
    """The decoded images of a split; arguments and errors are those of `open_split`.

    With `captions` they have captions in place of labels: those of `shapes` describe the scenes,
    those of a "folder" lie in a .txt beside each image, those of "jsonl" in lines of JSON.
    """
    opened = open_split(name, split, directory, captions=captions)
    class_names = () if captions else opened.class_names
    return ImageSource(opened.dataset, split, opened.records, class_names=class_names)


def open_captioned(name: str, split: str, directory: str = "") -> Records:
    """Opens a split of captioned images. Raises ValueError as `open_split` does, and for others."""
    if name in SCANS:
        check(directory != "", "data.directory: got nothing, expected the folder of images.")
        return SCANS[name](input_path(directory), split)
    check(
        name.startswith("shapes/"),
        f"data.captions: {name} has none; expected 'shapes/SIDE', 'folder' with a .txt beside "
        "every image, or 'jsonl'.",
    )
    return CaptionedScenes(open_split(name, split, directory).records, split)


def open_split(name: str, split: str, directory: str = "", *, captions: bool = False) -> Split:
    """Opens a split of a dataset; prepares the library's own datasets on first use.

    With `captions` it is opened as by `open_captioned`; its images are of one class.

    `name` is `FOLDER`, one of `OWN_BUILDERS`, or a dataset that lies prepared, as ArrayRecord,
    under `directory` ("name", "name/config", "name:1.0.0"); `split` is a TFDS split ("train",
    "train[:10%]"), of a folder "train" or "validation". `directory` "" is TFDS's default.
    "imagenet" is prepared from the official tar files in `directory`. Never uses the network.

    Raises ValueError for an unknown or unprepared dataset, a damaged copy, an unknown or empty
    split, and for datasets without an image and a class label.
    """
    if captions:
        return Split(name, split, open_captioned(name, split, directory), (CAPTIONED,))
    in_bucket = directory.startswith(BUCKETS)
    own_place = input_path(directory) if in_bucket else directory or tfds.core.constants.DATA_DIR
    place = tfds.core.Path(own_place).expanduser()
    if name == FOLDER:
        check(directory != "", "data.directory: got nothing, expected the folder of images.")
        files, class_names = scan_folder(Path(place), split)
        return Split(str(place), split, files, class_names, files.passed_over)
    own = _own_builder(name)
    builder = (
        _open(name, place) if own is None else _open_own(name, own, place, prepares=not in_bucket)
    )
    class_names = _class_names(name, builder.info.features)
    _check_split(name, split, builder.info.splits)
    with _damage_named(name, builder.data_dir):
        records = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        for end in (0, len(records) - 1):  # a missing or truncated file shows here
            records[end]
    return Split(name, split, PreparedRecords(records), class_names)


@dataclass(frozen=True)
class PreparedRecords:
    """The encoded images of a split that TFDS prepared, by index."""

    examples: Any

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.examples[index]

    def describe(self, index: int) -> str:
        """The record's index in the split."""
        return f"record {index}"

    def find_unreadable(self) -> dict[int, str]:
        """None: to tell, every record would have to be read."""
        return {}


def _own_builder(name: str) -> Callable[..., tfds.core.DatasetBuilder] | None:
    """What makes the builder of one of the library's datasets; None for datasets of others."""
    base, _, variant = name.partition("/")
    if base == "shapes":
        return partial(Shapes, config=ShapesConfig.parse(variant).name)
    return {"digits": Digits, "imagenet": Imagenet}.get(name)


def _open_own(
    name: str,
    own: Callable[..., tfds.core.DatasetBuilder],
    place: epath.Path,
    *,
    prepares: bool,
) -> tfds.core.DatasetBuilder:
    """The builder of one of the library's datasets, prepared.

    TFDS writes to a temporary directory and renames it when done, so that a killed preparation
    leaves nothing that could be taken for the dataset. Raises ValueError where it is not prepared
    and may not be, in a copy of a bucket.
    """
    with _damage_named(name, place / name):
        builder = own(data_dir=place, file_format="array_record")
        if builder.data_path.exists() and not builder.info.splits:
            raise FileNotFoundError(f"no {tfds.core.constants.DATASET_INFO_FILENAME}")
    if not builder.data_path.exists():
        check(
            prepares,
            f"data.directory: found no prepared copy of {name!r} in the bucket, expected one; "
            "prepare it in a folder on this machine, and copy that there.",
        )
        try:
            _prepare(builder, find_tars(Path(place)) if name == "imagenet" else None)
        except (OSError, RuntimeError) as error:  # TFDS wraps errors of its writer
            check(
                builder.data_path.exists(),  # then another process was first: its copy is as good
                f"data.directory: cannot prepare {name} in {place} ({first_line(error)}); "
                "choose a directory that can be written.",
            )
        builder = own(data_dir=place, file_format="array_record")
    return builder


def _prepare(builder: tfds.core.DatasetBuilder, files: Path | None) -> None:
    """Writes the dataset, without TFDS's messages, progress bars and look-ups in the cloud.

    `files` is the folder of what it is made of, None where the builder has all.
    """
    tfds.disable_progress_bar()
    settings = tfds.download.DownloadConfig(try_download_gcs=False, manual_dir=files)
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_config=settings)


def _open(name: str, place: PathLike) -> tfds.core.DatasetBuilder:
    """The builder of a dataset that was prepared elsewhere."""
    try:
        return read_only_builder.builder_from_files(name, data_dir=place)
    except ValueError:  # not there, or not even a name
        raise ValueError(
            f"data.name: found no prepared copy of {name!r} in {place}; this library prepares only "
            f"{', '.join(OWN_BUILDERS)}, let TFDS prepare others with file_format='array_record' "
            "and name their place in data.directory."
        ) from None
    except Exception as error:
        raise _damaged(name, place, error) from error


@contextlib.contextmanager
def _damage_named(name: str, place: PathLike | str) -> Iterator[None]:
    """Turns whatever TFDS raises over a copy that it cannot read into one sentence."""
    try:
        yield
    except Exception as error:
        raise _damaged(name, place, error) from error


def _damaged(name: str, place: PathLike | str, error: Exception) -> ValueError:
    return ValueError(
        f"data: the copy of {name} in {place} cannot be read ({first_line(error)}); expected a "
        "complete ArrayRecord dataset, delete it and prepare it again."
    )


def _class_names(name: str, features: Any) -> tuple[str, ...]:
    check(
        {"image", "label"} <= set(features) and hasattr(features["label"], "names"),
        f"data.name: {name} has the features {sorted(features)}, expected an 'image' and a class "
        "'label'; choose a dataset of labelled images.",
    )
    return tuple(features["label"].names)


def _check_split(name: str, split: str, splits: Any) -> None:
    try:
        examples = splits[split].num_examples
    except (KeyError, ValueError):
        raise ValueError(
            f"data: {name} has no split {split!r}, expected one of {sorted(splits)} or a part like "
            "'train[:10%]'; name another, in a config by data.train_split or data.validation_split."
        ) from None
    check(
        examples > 0,
        f"data: split {split!r} of {name} is empty, expected at least one image; change "
        "data.train_split or data.validation_split.",
    )
