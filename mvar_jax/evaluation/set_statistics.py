"""What is kept of a set of images to compare it with others, and the file that holds it.

The file is an .npz of which ADM's evaluator reads `mu`, `sigma`, `mu_s` and `sigma_s`. Names of
other networks than Inception begin with the network's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvar_jax.checks import check
from mvar_jax.data.image_sets import ImageSet
from mvar_jax.data.npz import array_names, read_array
from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.frechet import Accumulator, Gaussian
from mvar_jax.evaluation.inception_score import SPLITS, inception_score
from mvar_jax.files import written_whole
from mvar_jax.networks.features import FeatureNetwork

PLAIN = "inception"  # whose arrays have the names that others use
NAMES = ("mu", "sigma", "mu_s", "sigma_s", "features", "size", "inception_score", "weights")


@dataclass(frozen=True)
class SetStatistics:
    """What a network found in a set of images; None where nothing is known."""

    pool: Gaussian  # of the features of FID
    spatial: Gaussian | None = None  # of those of sFID
    features: np.ndarray | None = None  # float32 [images, features]: precision, recall and KID
    size: tuple[int, int] | None = None  # (height, width) of the images in pixels
    score: tuple[float, float] | None = None  # Inception's, and its deviation over splits


def measure_set(
    extractor: FeatureExtractor, images: ImageSet, report: Callable[[int], None]
) -> SetStatistics:
    """Computes the features of all images; `report` is told how many are done.

    Keeps 8 kB an image, and 4 kB more for the Inception Score, of which there is none by other
    networks or for fewer images than its splits. Raises ValueError as `FeatureExtractor.features`
    does, and for fewer than two images.
    """
    pool, spatial = Accumulator(), Accumulator()
    kept: list[np.ndarray] = []
    logits: list[np.ndarray] = []
    for found in extractor.features(images, report):
        kept.append(found.pool)
        pool.add(found.pool)
        if found.spatial is not None:
            spatial.add(found.spatial)
        if found.logits is not None and extractor.network.name == PLAIN:
            logits.append(found.logits)
    features = np.concatenate(kept)
    scored = logits and len(features) >= SPLITS
    return SetStatistics(
        pool.gaussian(),
        None if spatial.is_empty else spatial.gaussian(),
        features,
        images.size,
        inception_score(np.concatenate(logits)) if scored else None,
    )


def save_statistics(path: Path, found: Mapping[FeatureNetwork, SetStatistics]) -> None:
    """Writes what the networks found in one set, whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    for network, statistics in found.items():
        own = {name: array for name, array in _arrays(statistics) if array is not None}
        own["weights"] = np.array(network.weights)
        arrays |= {_name(network.name, name): array for name, array in own.items()}
    with written_whole(path) as draft, draft.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_statistics(path: Path, network: FeatureNetwork) -> SetStatistics | None:
    """What a file holds of a network, None where that is nothing.

    Raises ValueError for statistics of other weights, and for arrays of unfitting shapes.
    """
    names = {name: _name(network.name, name) for name in NAMES}
    stored = array_names(path)
    if names["mu"] not in stored:
        return None
    found = {name: read_array(path, own) for name, own in names.items() if own in stored}
    weights = str(found.pop("weights", network.weights))
    check(
        weights == network.weights,
        f"{path}: holds statistics of the {network.name} weights {weights[:8]}, expected "
        f"{network.weights[:8]}, those given; measure its images again.",
    )
    pool, spatial = _gaussian(path, found, ""), _gaussian(path, found, "_s")
    assert pool is not None
    return SetStatistics(
        pool,
        spatial,
        found.get("features"),
        _pair(found.get("size")),
        _pair(found.get("inception_score")),
    )


def stored_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of the images that a file's statistics are of, if it says so."""
    names = sorted(name for name in array_names(path) if name.endswith("size"))
    return _pair(read_array(path, names[0])) if names else None


def _pair(array: np.ndarray | None):
    return None if array is None else tuple(array.tolist())


def _arrays(statistics: SetStatistics):
    for end, gaussian in (("", statistics.pool), ("_s", statistics.spatial)):
        if gaussian is not None:
            yield f"mu{end}", gaussian.mean
            yield f"sigma{end}", gaussian.covariance
    yield "features", statistics.features
    yield "size", None if statistics.size is None else np.array(statistics.size)
    yield "inception_score", None if statistics.score is None else np.array(statistics.score)


def _name(network: str, name: str) -> str:
    return name if network == PLAIN else f"{network}_{name}"


def _gaussian(path: Path, found: Mapping[str, np.ndarray], end: str) -> Gaussian | None:
    """The Gaussian of `mu` and `sigma`, with an `end`; None where both are missing."""
    names = f"mu{end}", f"sigma{end}"
    if not any(name in found for name in names):
        return None
    mean, covariance = (np.asarray(found.get(name, np.zeros(0))) for name in names)
    check(
        mean.ndim == 1 and covariance.shape == 2 * mean.shape and mean.dtype.kind == "f",
        f"{path}: holds {names[0]} {list(mean.shape)} and {names[1]} {list(covariance.shape)}, "
        "expected [features] and [features, features]; write it again.",
    )
    return Gaussian.from_covariance(mean, covariance)
