"""The metrics of a set of generated images against a set of real ones."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mvar_jax.checks import check, check_given
from mvar_jax.data.image_sets import holds_images, open_images
from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.frechet import gaussian_distance
from mvar_jax.evaluation.kernel_distance import SUBSET_SIZE, subset_distances
from mvar_jax.evaluation.neighbours import precision_recall
from mvar_jax.evaluation.set_statistics import (
    PLAIN,
    SetStatistics,
    load_statistics,
    measure_set,
    stored_size,
)

Report = Callable[[str, int], Callable[[int], None]]  # of a task and its size, who is told of it


def find_statistics(path: Path, extractor: FeatureExtractor, report: Report) -> SetStatistics:
    """What a network finds in the images of a folder or a file, or what the file says of it.

    Means and covariances that a file holds come before those of its images, as in ADM's evaluator:
    they may be of more. Its images are measured where it holds no features. Raises ValueError for
    a file with neither images nor statistics of the network, and for what is wrong with them.
    """
    stored = None if path.is_dir() else load_statistics(path, extractor.network)
    if (stored is not None and stored.features is not None) or not holds_images(path):
        return check_given(
            stored,
            f"{path}: holds neither images (arr_0) nor statistics (mu and sigma) of "
            f"{extractor.network.name}, expected one of them; name another file or network.",
        )
    images = open_images(path)
    name = f"{extractor.network.name}: {path.name}"
    found = measure_set(extractor, images, report(name, images.count))
    if stored is None:
        return found
    kept = {name: value for name, value in vars(stored).items() if value is not None}
    return replace(found, **kept)


def check_sizes(samples: Path, reference: Path) -> None:
    """Raises ValueError for images of different sizes, where both sizes are known."""
    sizes = [_size(path) for path in (samples, reference)]
    texts = [f"{size[0]} x {size[1]}" if size else "" for size in sizes]
    check(
        None in sizes or sizes[0] == sizes[1],
        f"{samples}: has images of {texts[0]} pixels, expected {texts[1]} as {reference}; resize "
        "them before, since how it is done changes every metric.",
    )


def _size(path: Path) -> tuple[int, int] | None:
    """(height, width) of a set's images in pixels, as far as they or the file tell."""
    return open_images(path).size if holds_images(path) else stored_size(path)


def compare(network: str, samples: SetStatistics, reference: SetStatistics) -> dict[str, float]:
    """Every metric that the statistics allow, by its name in reports.

    Of Inception `fid`, `sfid`, `inception_score` and its `inception_score_std`, `precision`,
    `recall` and `kid`; of another network `fd_lite`, `precision_lite` and `recall_lite`, which are
    not comparable to them.
    """
    is_plain, end = network == PLAIN, "" if network == PLAIN else "_lite"
    found = {"fid" if is_plain else "fd_lite": gaussian_distance(samples.pool, reference.pool)}
    if is_plain and samples.spatial is not None and reference.spatial is not None:
        found["sfid"] = gaussian_distance(samples.spatial, reference.spatial)
    if is_plain and samples.score is not None:
        found |= dict(zip(("inception_score", "inception_score_std"), map(float, samples.score)))
    if samples.features is not None and reference.features is not None:
        pair = precision_recall(samples.features, reference.features)
        found |= dict(zip((f"precision{end}", f"recall{end}"), pair))
        if is_plain:
            distances = subset_distances(samples.features, reference.features)
            found["kid"] = float(np.mean(distances))
    return found


def remarks(path: Path, statistics: SetStatistics) -> Iterator[str]:
    """What is to be known of metrics of a set: that it is small."""
    if statistics.features is None:
        yield f"{path}: no images, hence no precision, recall or KID."
        return
    count, features = statistics.features.shape
    if count <= features:
        yield (
            f"{path}: {count} images are no more than the {features} features, so covariances are "
            "singular and distances much too large; compare them only with distances between as "
            "many images."
        )
    if count < SUBSET_SIZE:
        yield f"{path}: KID is of subsets of {count} images, not of {SUBSET_SIZE}."
