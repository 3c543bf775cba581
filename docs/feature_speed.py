"""How fast features of images are found: on this machine, and by the TPU compiler's roofline.

    python docs/feature_speed.py 10000 v5e:1x1

Prints a table. Networks have the published shapes and made-up weights, images of 256x256 pixels are
random: neither changes how long it takes. The topology may be left out; to compile Inception for it
takes minutes.
"""

import sys
import time
from collections.abc import Iterable
from functools import partial

import jax
import numpy as np

from mvar_jax.compilation.chips import Chip
from mvar_jax.compilation.program import Program, batch_shape
from mvar_jax.compilation.report import Part
from mvar_jax.compilation.topology import get_chip, topology_devices
from mvar_jax.config import MeshConfig
from mvar_jax.convert.efficientnet_names import efficientnet_entries
from mvar_jax.convert.inception_names import inception_entries
from mvar_jax.convert.names import Entry, read_params
from mvar_jax.evaluation.features import FeatureExtractor
from mvar_jax.evaluation.markdown import markdown_table
from mvar_jax.mesh.progress import TaskProgress
from mvar_jax.mesh.sharding import make_mesh
from mvar_jax.networks import efficientnet, inception
from mvar_jax.networks.features import FeatureNetwork
from mvar_jax.networks.layers import fold_norms

BATCH = 64  # images at once, as `evaluate metrics` takes them
SHAPE = (256, 256, 3)


def made_up(name: str, entries: Iterable[Entry], module) -> FeatureNetwork:
    """A network whose weights are all alike; `module` has its epsilon and `NAME_features`."""
    entries = list(entries)
    state = {entry.official: np.full(entry.official_shape, 0.01, np.float32) for entry in entries}
    params = jax.device_put(fold_norms(read_params(entries, state), module.NORM_EPSILON))
    return FeatureNetwork(name, "", module.RESIZE, params, getattr(module, f"{name}_features"))


def images_per_second(network: FeatureNetwork, count: int, shape: tuple[int, ...] = SHAPE) -> float:
    """Of about `count` images in full batches, after one batch that does not count."""
    extractor = FeatureExtractor(network, BATCH)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), np.uint8)
    extractor(images)
    batches, start = -(-count // BATCH), time.perf_counter()
    with TaskProgress(network.name, batches, "batch") as progress:
        for _ in range(batches):
            extractor(images)
            progress.advance()
    return batches * BATCH / (time.perf_counter() - start)


def least_seconds(network: FeatureNetwork, chip: Chip, shape: tuple[int, ...] = SHAPE) -> float:
    """Roofline time of a batch on each chip of the ambient mesh."""
    mesh = jax.sharding.get_mesh()
    everywhere = jax.sharding.NamedSharding(mesh, jax.P())
    placed = partial(jax.ShapeDtypeStruct, sharding=everywhere)
    params = jax.tree.map(lambda array: placed(array.shape, array.dtype), network.params)
    images = batch_shape((BATCH * mesh.size, *shape), np.uint8)
    program = Program(network.compute, params, images, options=chip.compiler.options)
    return Part("features", program.cost).seconds(chip)


def main(count: str, topology: str = "") -> None:
    """Measures both networks, and prints a row for each."""
    networks = [
        made_up("inception", inception_entries(), inception),
        made_up("efficientnet", efficientnet_entries(), efficientnet),
    ]
    rows = []
    for network in networks:
        row = [network.name, f"{images_per_second(network, int(count)):.3g}"]
        if topology:
            mesh = make_mesh(MeshConfig(), topology_devices(topology))
            with jax.set_mesh(mesh):
                seconds = least_seconds(network, get_chip(topology))
            row.append(f"{BATCH / seconds:.4g}")
        rows.append(row)
    columns = ["images a second", "measured here", f"at most, a chip of {topology}"]
    print(markdown_table(columns[: len(rows[0])], rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
