"""Networks that images are compared by, and a set of images that others are compared with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mvar_jax.array_types import Array, Float, HostArray, Params
from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.frechet import Accumulator, Gaussian, gaussian_distance
from mvar_jax.evaluation.set_statistics import distance_name
from mvar_jax.networks.lpips import PerceptualNetwork, check_size, perceptual_distance
from mvar_jax.pictures.pixels import to_uint8

PAIRS = 16  # compared by LPIPS at a time


@dataclass(frozen=True)
class Judges:
    """Networks for distances between sets of images, and for those between pairs."""

    extractors: Sequence[FeatureExtractor] = ()
    perceptual: PerceptualNetwork | None = None

    def check_fit(self, image_size: tuple[int, int]) -> None:
        """Raises ValueError for images of (height, width) pixels that LPIPS cannot compare."""
        if self.perceptual is not None:
            check_size(self.perceptual.backbone, image_size)


class Judged:
    """Images, and what judges found in them."""

    def __init__(self, judges: Judges, images: Float[HostArray, "batch height width_px 3"]):
        """Computes the features of the images, which are in [-1, 1]."""
        self.judges, self.images = judges, images
        self._moments = [_moments(one, images) for one in judges.extractors]
        network = judges.perceptual
        self._mean_lpips = None if network is None else jax.jit(_mean_distance(network))

    def compare_with_themselves(self) -> dict[str, float]:
        """What `compare` gives for the same images, as any distance from itself: 0."""
        names = [distance_name(one.network.name) for one in self.judges.extractors]
        return dict.fromkeys(names if self.judges.perceptual is None else [*names, "lpips"], 0.0)

    def compare(self, images: Float[HostArray, "_ height width_px 3"]) -> dict[str, float]:
        """The distances of other images, each of which LPIPS compares with that of its place.

        `fid` by Inception, or `fd_lite` by another network, is the distance of the two sets,
        rounded to 8 bits; `lpips` the mean over pairs.
        """
        found = {}
        for one, own in zip(self.judges.extractors, self._moments):
            found[distance_name(one.network.name)] = gaussian_distance(_moments(one, images), own)
        network = self.judges.perceptual
        if network is not None and self._mean_lpips is not None:
            found["lpips"] = float(self._mean_lpips(network.params, self.images, images))
        return found


def _mean_distance(network: PerceptualNetwork) -> Callable[[Params, Array, Array], Array]:
    """The mean of LPIPS over all pairs, a few of them at a time."""

    def run(params, images, others):
        def one(pair):
            one, other = pair[0][None], pair[1][None]
            return perceptual_distance(network.backbone, params, one, other)[0]

        return jnp.mean(jax.lax.map(one, (images, others), batch_size=PAIRS))

    return run


def _moments(extractor: FeatureExtractor, images: HostArray) -> Gaussian:
    total, size = Accumulator(), extractor.batch_size
    for first in range(0, len(images), size):
        total.add(extractor(to_uint8(images[first : first + size])).pool)
    return total.gaussian()
