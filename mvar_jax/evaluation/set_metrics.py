"""The metrics of a set of generated images against a set of real ones."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mvar_jax.checks import check
from mvar_jax.data.image_sets import ImageSet
from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.frechet import gaussian_distance
from mvar_jax.evaluation.kernel_distance import SUBSET_SIZE, subset_distances
from mvar_jax.evaluation.neighbours import NEIGHBOURS, precision_recall
from mvar_jax.evaluation.set_sources import SetSource
from mvar_jax.evaluation.set_statistics import PLAIN, SetStatistics, distance_name, measure_set
from mvar_jax.networks.features import FeatureNetwork

Report = Callable[[str, int], Callable[[int], None]]  # of a task and its size, who is told of it
COMPARED = 50_000  # images, of which papers compute FID


@dataclass(frozen=True)
class OpenedSet:
    """A set before a network measures it: what its file says, and the images to measure.

    `images` is None where what is stored stands for them.
    """

    name: str
    stored: SetStatistics | None
    images: ImageSet | None

    def measure(self, extractor: FeatureExtractor, report: Report) -> SetStatistics:
        """What the network finds. Raises ValueError as `measure_set` does."""
        if self.images is None:
            assert self.stored is not None
            return self.stored
        name = f"{extractor.network.name}: {Path(self.name).name}"
        found = measure_set(extractor, self.images, report(name, self.images.count))
        kept = {} if self.stored is None else vars(self.stored)
        return replace(found, **{key: value for key, value in kept.items() if value is not None})


def open_set(source: SetSource, network: FeatureNetwork) -> OpenedSet:
    """What is stored of a set, and its images, of which none is measured.

    Means and covariances that a file holds come before those of its images, as in ADM's evaluator:
    they may be of more. Its images are measured where it holds no features. Raises ValueError for
    a file with neither images nor statistics of the network, for what is wrong with them, and for
    fewer than two images.
    """
    stored = source.stored(network)
    is_measured = stored is not None and stored.features is not None
    images = None if is_measured else source.images()
    check(
        stored is not None or images is not None,
        f"{source.name}: holds neither images (arr_0) nor statistics (mu and sigma) of "
        f"{network.name}, expected one of them; name another file or network.",
    )
    count = 2 if images is None else images.count
    check(
        count >= 2,
        f"{source.name}: got {count} image, expected at least 2 for a covariance; add more.",
    )
    return OpenedSet(source.name, stored, images)


def check_sizes(samples: SetSource, reference: SetSource) -> None:
    """Raises ValueError for images of different sizes, where both sizes are known."""
    sizes = [source.size() for source in (samples, reference)]
    texts = [f"{size[0]} x {size[1]}" if size else "" for size in sizes]
    check(
        None in sizes or sizes[0] == sizes[1],
        f"{samples.name}: has images of {texts[0]} pixels, expected {texts[1]} as "
        f"{reference.name}; resize them before, since how it is done changes every metric.",
    )


def compare(network: str, samples: SetStatistics, reference: SetStatistics) -> dict[str, float]:
    """Every metric that the statistics allow, by its name in reports.

    Of Inception `fid`, `sfid`, `inception_score` and its `inception_score_std`, `precision`,
    `recall` and `kid`; of another network `fd_lite`, `precision_lite` and `recall_lite`, which are
    not comparable to them. Of few images there are no precision and recall.
    """
    is_plain, end = network == PLAIN, "" if network == PLAIN else "_lite"
    found = {distance_name(network): gaussian_distance(samples.pool, reference.pool)}
    if is_plain and samples.spatial is not None and reference.spatial is not None:
        found["sfid"] = gaussian_distance(samples.spatial, reference.spatial)
    if is_plain and samples.score is not None:
        found |= dict(zip(("inception_score", "inception_score_std"), map(float, samples.score)))
    if samples.features is not None and reference.features is not None:
        least = min(len(samples.features), len(reference.features))
        if least > NEIGHBOURS:
            pair = precision_recall(samples.features, reference.features)
            found |= dict(zip((f"precision{end}", f"recall{end}"), pair))
        if is_plain and least >= 2:
            distances = subset_distances(samples.features, reference.features)
            found["kid"] = float(np.mean(distances))
    return found


def remarks(
    network: str, sets: Mapping[str, SetStatistics], found: Mapping[str, float]
) -> Iterator[str]:
    """What is to be known of the metrics that were found of samples, the first set, and others."""
    for name, statistics in sets.items():
        if not statistics.weights_known:
            yield (
                f"{name}: does not say by which weights and resize its statistics of {network} "
                "were computed; other ones make distances wrong."
            )
        if statistics.features is None:
            rest = "precision, recall or KID" if network == PLAIN else "precision or recall"
            yield f"{name}: no images, hence no {rest}."
        else:
            count, features = statistics.features.shape
            yield from _remarks_of_count(name, count, features, found)
    samples = next(iter(sets.values())).features
    if "fid" in found and samples is not None and len(samples) < COMPARED:
        yield (
            f"{next(iter(sets))}: FID is of {len(samples)} images, in papers of {COMPARED}; it is "
            "the larger the fewer there are."
        )


def _remarks_of_count(
    name: str, count: int, features: int, found: Mapping[str, float]
) -> Iterator[str]:
    if count <= features:
        yield (
            f"{name}: {count} images are no more than the {features} features, so covariances are "
            "singular and distances much too large; compare them only with distances between as "
            "many images."
        )
    if found and count <= NEIGHBOURS:
        yield (
            f"{name}: {count} images are too few for precision and recall, which need at least "
            f"{NEIGHBOURS + 1}."
        )
    if "kid" in found and count < SUBSET_SIZE:
        yield f"{name}: KID is of subsets of {count} images, not of {SUBSET_SIZE}."
