"""A TFDS dataset of ImageNet (ILSVRC 2012), from the official tar files, which stay packed.

The training tar holds a tar of JPEGs for every class, the validation tar JPEGs alone, whose
classes TFDS knows. Nothing is written but the dataset: names in the archives are only compared.
"""

import contextlib
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from mvar_jax.checks import check, first_line
from mvar_jax.mesh.progress import TaskProgress

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TRAIN_IMAGES = 1_281_167
MAX_BYTES = 2**26  # of one image; the largest has 15 MB
Example = tuple[str, str, bytes]  # file name, class, encoded image


class Imagenet(tfds.core.GeneratorBasedBuilder):
    """1,281,167 training and 50,000 validation images of 1000 classes.

    Classes are in the order of their WordNet ids, which are their names.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{TRAIN_TAR} and {VALIDATION_TAR} of image-net.org."

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=class_ids()),
                "file_name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="ImageNet, ILSVRC 2012, as published.",
            features=features,
            supervised_keys=("image", "label"),
            homepage="https://image-net.org/",
        )

    def _split_generators(self, dl_manager) -> dict:
        folder = Path(dl_manager.manual_dir)
        return {
            "train": self._generate_examples(read_train(folder / TRAIN_TAR)),
            "validation": self._generate_examples(read_validation(folder / VALIDATION_TAR)),
        }

    def _generate_examples(self, images: Iterator[Example]) -> Iterator[tuple[str, dict]]:
        for name, label, encoded in images:
            yield name, {"image": encoded, "label": label, "file_name": name}


def class_ids() -> list[str]:
    """The WordNet ids of the 1000 classes, sorted."""
    return _lines("labels.txt")


def validation_ids() -> list[str]:
    """The class of every validation image, in the order of the files' names."""
    return _lines("validation_labels.txt")


def find_tars(place: Path) -> Path:
    """The folder that holds both tars: `place`, or where TFDS expects what is got by hand.

    Raises ValueError where they are in neither.
    """
    folders = (place, place / "downloads" / "manual")
    for folder in folders:
        if all((folder / name).is_file() for name in (TRAIN_TAR, VALIDATION_TAR)):
            return folder
    raise ValueError(
        f"data.directory: found no {TRAIN_TAR} and {VALIDATION_TAR} in {folders[0]} or "
        f"{folders[1]}, expected both; get them from image-net.org, or set data.name to "
        "'imagenet2012' for a copy that TFDS prepared."
    )


def read_train(path: Path) -> Iterator[Example]:
    """All images of the training tar. Raises ValueError for any other or incomplete archive."""
    classes, count = set(class_ids()), 0
    with _open(path) as (outer, reach):
        for archive, class_id in _members(outer, path, r"(n\d{8})\.tar"):
            check(class_id in classes, f"{path}: {archive.name} is of no class of ILSVRC 2012.")
            with tarfile.open(fileobj=outer.extractfile(archive), mode="r:") as inner:
                for image, name in _members(inner, path, rf"({class_id}_\d+\.JPEG)"):
                    count += 1
                    yield name, class_id, _read(inner, image, path)
                    reach(archive.offset_data + image.offset_data + image.size)
            classes.remove(class_id)
    _check_complete(path, count, TRAIN_IMAGES)


def read_validation(path: Path) -> Iterator[Example]:
    """All images of the validation tar. Raises ValueError for any other or incomplete archive."""
    ids, count = validation_ids(), 0
    with _open(path) as (archive, reach):
        for image, number in _members(archive, path, r"ILSVRC2012_val_(\d{8})\.JPEG"):
            check(1 <= int(number) <= len(ids), f"{path}: {image.name} is not of ILSVRC 2012.")
            count += 1
            yield Path(image.name).name, ids[int(number) - 1], _read(archive, image, path)
            reach(image.offset_data + image.size)
    _check_complete(path, count, len(ids))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[tarfile.TarFile, Callable[[int], None]]]:
    """An archive, and a function to report how many of its bytes are read, to show the progress."""
    size = path.stat().st_size
    try:
        with TaskProgress(path.name, size, "B") as progress, tarfile.open(path, "r:") as archive:
            yield archive, progress.reach
            progress.reach(size)  # behind the last image there is a little more
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{path}: is damaged ({first_line(error)}), expected the file of image-net.org; get it "
            "again."
        ) from error


def _members(
    archive: tarfile.TarFile, path: Path, pattern: str
) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """The files of an archive and what the pattern's group finds in their names."""
    for member in archive:
        if member.isdir():
            continue
        found = re.fullmatch(rf"(?:\./)?{pattern}", member.name)
        if not member.isreg() or found is None:
            raise ValueError(
                f"{path}: holds {member.name!r}, expected files named as {pattern}; get the file "
                "of image-net.org."
            )
        yield member, found[1]


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    check(
        member.size <= MAX_BYTES,
        f"{path}: {member.name!r} has {member.size} bytes, expected an image of at most "
        f"{MAX_BYTES}; get the file of image-net.org.",
    )
    content = archive.extractfile(member)
    assert content is not None  # `_members` gives regular files only
    return content.read()


def _check_complete(path: Path, count: int, expected: int) -> None:
    check(
        count == expected,
        f"{path}: holds {count} images, expected {expected}; get the whole file of image-net.org.",
    )


def _lines(name: str) -> list[str]:
    folder = Path(tfds.core.tfds_path("datasets/imagenet2012"))
    return (folder / name).read_text(encoding="utf-8").split()
