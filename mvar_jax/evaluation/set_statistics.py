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
SYMMETRY = 1e-5  # of a covariance's largest entry: how far its two halves may differ
NAMES = ("mu", "sigma", "mu_s", "sigma_s", "features", "size", "inception_score", "weights")


def distance_name(network: str) -> str:
    """The name in reports of a distance by the features of a network, which only one gives FID."""
    return "fid" if network == PLAIN else "fd_lite"


@dataclass(frozen=True)
class SetStatistics:
    """What a network found in a set of images; None where nothing is known."""

    pool: Gaussian  # of the features of FID
    spatial: Gaussian | None = None  # of those of sFID
    features: np.ndarray | None = None  # float32 [images, features]: precision, recall and KID
    size: tuple[int, int] | None = None  # (height, width) of the images in pixels
    score: tuple[float, float] | None = None  # Inception's, and its deviation over splits
    weights_known: bool = True  # where stored, whether it says by which weights it was computed


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

    Raises ValueError for statistics of other weights, for arrays of unfitting shapes, and for what
    cannot be means and covariances.
    """
    names = {name: _name(network.name, name) for name in NAMES}
    stored = array_names(path)
    if names["mu"] not in stored:
        return None
    found = {name: read_array(path, own) for name, own in names.items() if own in stored}
    weights = str(found.get("weights", network.weights))
    check(
        weights == network.weights,
        f"{path}: holds statistics of the {network.name} weights {weights[:8]}, expected "
        f"{network.weights[:8]}, those given; measure its images again.",
    )
    lengths = network.lengths()
    pool = _gaussian(path, found, "", lengths["pool"])
    assert pool is not None
    return SetStatistics(
        pool,
        _gaussian(path, found, "_s", lengths["spatial"]) if "spatial" in lengths else None,
        _numbers(path, found, "features", (None, lengths["pool"])),
        _size(path, found),
        _score(path, found),
        weights_known="weights" in found,
    )


def stored_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of the images that a file's statistics are of, if it says so."""
    names = array_names(path)
    # Of every network's statistics, as `_name` has them; others' files may hold what ends alike.
    ends = [name.removesuffix("mu") + "size" for name in sorted(names) if name.endswith("mu")]
    sizes = [name for name in ends if name in names]
    return _size(path, {"size": read_array(path, sizes[0])}) if sizes else None


def _size(path: Path, found: Mapping[str, np.ndarray]) -> tuple[int, int] | None:
    size = _numbers(path, found, "size", (2,))
    return None if size is None else (int(size[0]), int(size[1]))


def _score(path: Path, found: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
    score = _numbers(path, found, "inception_score", (2,))
    return None if score is None else (float(score[0]), float(score[1]))


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


def _gaussian(
    path: Path, found: Mapping[str, np.ndarray], end: str, length: int
) -> Gaussian | None:
    """The Gaussian of `mu` and `sigma`, with an `end`; None where both are missing."""
    names = f"mu{end}", f"sigma{end}"
    if not any(name in found for name in names):
        return None
    mean = _numbers(path, found, names[0], (length,))
    covariance = _numbers(path, found, names[1], (length, length))
    if mean is None or covariance is None:
        raise ValueError(f"{path}: holds one of {' and '.join(names)}, expected both; add it.")
    covariance = np.asarray(covariance, np.float64)
    uneven = float(np.abs(covariance - covariance.T).max())
    check(
        uneven <= SYMMETRY * float(np.abs(covariance).max()),
        f"{path}: {names[1]} is not symmetric, its entries differ by {uneven:.3g}, expected a "
        "covariance; write it again.",
    )
    try:
        return Gaussian.from_covariance(mean, covariance)
    except ValueError as error:
        raise ValueError(f"{path}: {names[1]}: {error}") from None


def _numbers(
    path: Path, found: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]
) -> np.ndarray | None:
    """The finite real numbers of that name and shape, where None stands for any length."""
    if name not in found:
        return None
    array = found[name]
    fits = array.ndim == len(shape) and all(
        expected in (None, own) for own, expected in zip(array.shape, shape)
    )
    text = ", ".join("images" if one is None else str(one) for one in shape)
    check(
        fits and array.dtype.kind in "fiu",
        f"{path}: {name} is {array.dtype} {list(array.shape)}, expected real numbers [{text}]; "
        "take statistics of the same network, or write them again.",
    )
    check(
        bool(np.isfinite(array).all()),
        f"{path}: {name} holds NaN or infinity, expected finite numbers; write it again.",
    )
    return array
