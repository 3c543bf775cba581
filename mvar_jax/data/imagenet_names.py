"""The English names of ImageNet's classes, from a list that TFDS ships."""

import importlib.util
import runpy
from functools import cache
from pathlib import Path


@cache
def imagenet_names() -> tuple[str, ...]:
    """The names of the 1000 classes, "tench, Tinca tinca" and so on; none where TFDS has no list.

    They are in the order of the WordNet ids, which is that of the official weights' labels.
    """
    # Only this file of TFDS is run: importing TFDS takes longer than loading a small model.
    package = importlib.util.find_spec("tensorflow_datasets")
    if package is None or package.origin is None:
        return ()
    file = Path(package.origin).parent / "datasets" / "siscore" / "labels.py"
    return tuple(runpy.run_path(str(file))["IMAGENET_LABELS_LIST"]) if file.is_file() else ()
