"""The features that a network finds in sets of images, on all local devices."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np
from einops import rearrange
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import UInt8

from mvar_jax.array_types import Array, Params, in_32_bits
from mvar_jax.checks import check
from mvar_jax.config import MeshConfig
from mvar_jax.data.image_sets import ImageSet, filled
from mvar_jax.mesh.axes import BATCH
from mvar_jax.mesh.sharding import make_mesh
from mvar_jax.networks.features import FeatureNetwork, ImageFeatures


class FeatureExtractor:
    """Computes features in batches of one size, split over this process's devices by image.

    A last batch is filled up, so that the same program computes all images: features do not depend
    on how many there are.
    """

    def __init__(self, network: FeatureNetwork, batch_size: int):
        """`batch_size` is rounded up to a multiple of the devices."""
        devices = jax.local_devices()
        self.network = network
        self.batch_size = -(-batch_size // len(devices)) * len(devices)
        mesh = make_mesh(MeshConfig(), devices)
        self._rows = NamedSharding(mesh, PartitionSpec(BATCH))
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._params = jax.device_put(network.params, everywhere)
        # Caches of CPUs hold the maps of one image, which takes a batch 0.6 of its time.
        one_by_one = partial(_one_by_one, network.compute, len(devices))
        self._run = jax.jit(
            one_by_one if devices[0].platform == "cpu" else network.compute,
            in_shardings=(everywhere, self._rows),
            out_shardings=self._rows,
        )

    @in_32_bits
    def _start(self, images: np.ndarray) -> ImageFeatures:
        batch = jax.device_put(filled(images, self.batch_size), self._rows)
        return self._run(self._params, batch)

    def __call__(self, images: UInt8[np.ndarray, "_ height width_px 3"]) -> ImageFeatures:
        """The features of at most a batch of images, on the host; NaN or infinite ones too."""
        return _on_host(self._start(images), len(images))

    def features(self, images: ImageSet, report: Callable[[int], None]) -> Iterator[ImageFeatures]:
        """The features of each batch, in order, on the host; `report` is told how many are done.

        One batch is read while another is computed. Raises ValueError, with the image's name, for
        features that are NaN or infinite.
        """
        done, waiting = 0, None
        for batch in images.batches(self.batch_size):
            started = self._start(batch), len(batch)
            if waiting is not None:
                yield self._finish(images, done, *waiting)
                done += waiting[1]
                report(done)
            waiting = started
        if waiting is not None:
            yield self._finish(images, done, *waiting)
            report(done + waiting[1])

    def _finish(
        self, images: ImageSet, first: int, found: ImageFeatures, count: int
    ) -> ImageFeatures:
        """The features of `count` images from number `first` on."""
        found = _on_host(found, count)
        bad = np.flatnonzero(~np.isfinite(found.pool).all(axis=1))
        check(
            len(bad) == 0,
            f"{images.name(first + int(bad[0])) if len(bad) else ''}: {self.network.name} has NaN "
            f"or infinite features of it, expected finite ones; check its weights and the image.",
        )
        return found


def _one_by_one(
    compute: Callable[[Params, Array], ImageFeatures], devices: int, params: Params, images: Array
) -> ImageFeatures:
    """The features of images, one at a time on each of `devices`."""
    split = rearrange(images, "(rows parts) ... -> parts rows ...", rows=devices)
    found = jax.lax.map(partial(compute, params), split)
    return jax.tree.map(lambda array: rearrange(array, "parts rows ... -> (rows parts) ..."), found)


def _on_host(found: ImageFeatures, count: int) -> ImageFeatures:
    """The first `count` images' features, without those of the filling."""
    return jax.tree.map(lambda array: np.asarray(array)[:count], found)
