"""The manifest of a folder of samples: all that their pixels follow from.

DIR/manifest.json    from the start; says at the end that all is there, and the archive's checksum
DIR/parts/           the images that are drawn, while it is not; see `parts`
DIR/features/        the features of prompts, while it is not
DIR/samples.npz      all images, or what another layout has in its place; see `layouts`
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

import mvar_jax
from mvar_jax.checks import check
from mvar_jax.files import UNFINISHED, check_unused, load_json, remove_folder, write_text
from mvar_jax.training.lock import NAME as LOCK

FORMAT = "mvar_jax samples 1"
MANIFEST, PARTS, FEATURES, ARCHIVE = "manifest.json", "parts", "features", "samples.npz"


@dataclass(frozen=True)
class SampleManifest:
    """How samples are drawn, as values of JSON by name.

    `settings` are what was asked for, `environment` what it is computed by. `finished` says that
    all images are there, `sha256` is that of the archive, in a layout that has one.
    """

    settings: dict[str, Any]
    environment: dict[str, str]
    finished: bool = False
    sha256: str = ""
    format: str = FORMAT

    @classmethod
    def load(cls, file: Path) -> "SampleManifest":
        """From a file. Raises ValueError for any other content."""
        try:
            manifest = cls(**load_json(file))
            sound = manifest.format == FORMAT
        except (TypeError, ValueError):
            sound = False
        check(
            sound,
            f"{file}: is not what python -m mvar_jax.evaluate sample writes; name another --out.",
        )
        return manifest

    def save(self, folder: Path) -> None:
        """Writes the file of a folder, whole or not at all."""
        write_text(folder / MANIFEST, json.dumps(dataclasses.asdict(self), indent=1))

    def find(self, folder: Path) -> "SampleManifest | None":
        """Their manifest in a folder where they are all there, None where some are to be drawn.

        Raises ValueError for a folder that is another's, or where other samples, or these in
        another environment, are begun: it stays as it is.
        """
        if not (folder / MANIFEST).exists():
            check_unused(folder, but=LOCK)
            return None
        found = SampleManifest.load(folder / MANIFEST)
        begun = not found.finished and _is_begun(folder)
        if found.finished or begun:
            _check_same(found.settings, self._stored().settings, folder)
        if begun:
            _check_same(found.environment, self.environment, folder)
        if not found.finished:
            return None
        check(
            not found.sha256 or (folder / ARCHIVE).is_file(),
            f"--out: {folder} is finished, but its {ARCHIVE} is gone; name another folder.",
        )
        clear(folder)  # where the process was killed that finished it
        return found

    def claim(self, folder: Path) -> "SampleManifest":
        """Makes a folder that of these samples; returns its manifest, which may be finished.

        Work that was interrupted is resumed, by the same settings in the same environment. The
        folder must be locked, since a manifest of which nothing is drawn yet is replaced. Raises
        ValueError as `find` does, and OSError.
        """
        finished, file = self.find(folder), folder / MANIFEST
        if finished is not None:
            return finished
        if file.exists() and not _is_begun(folder) and SampleManifest.load(file) != self._stored():
            clear(folder)  # as after a setting that did not fit into memory
        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder)
        return self

    def conclude(self, folder: Path, sha256: str) -> "SampleManifest":
        """Says that all is there, then removes what was needed on the way."""
        finished = replace(self, finished=True, sha256=sha256)
        finished.save(folder)
        clear(folder)
        return finished

    def _stored(self) -> "SampleManifest":
        """The manifest as it comes back from a file, where tuples are lists."""
        return SampleManifest(**json.loads(json.dumps(dataclasses.asdict(self))))


def environment() -> dict[str, str]:
    """What the same settings may be computed differently by: versions, devices, precision."""
    return {
        "mvar_jax": mvar_jax.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpy": np.__version__,
        "device": jax.local_devices()[0].device_kind,
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"] or "default"),
    }


def clear(folder: Path) -> None:
    """Removes the parts, the features and the drafts of killed processes."""
    for name in (PARTS, FEATURES):
        remove_folder(folder / name)
    for left in folder.rglob(f"*{UNFINISHED}"):
        remove_folder(left) if left.is_dir() else left.unlink(missing_ok=True)


def _is_begun(folder: Path) -> bool:
    """Whether anything is drawn already: a part, or a picture of a layout."""
    return any((folder / PARTS).glob("*.npy")) or any(folder.rglob("*.png"))


def _check_same(found: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    for name, old, new in _differences(found, asked):
        raise ValueError(
            f"--out: {folder} holds samples of {name}={_short(old)}, got {_short(new)}; ask for "
            "the same, or name another folder."
        )


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The values that differ, each with its path."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield name, old, new
        return
    for key in [*new, *(key for key in old if key not in new)]:
        yield from _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))


def _short(value: Any) -> str:
    """A value for a sentence: of a checksum or a list, the beginning."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
