"""docs/feature_speed.py measures whole batches, and takes the roofline of one."""

import jax
import numpy as np
import pytest

from mvar_jax.compilation.chips import TPUS
from mvar_jax.networks.features import FeatureNetwork, ImageFeatures
from tests.scripts import script

SHAPE = (4, 4, 3)


@pytest.fixture(scope="module")
def speed():
    return script("feature_speed")


def tiny(note=lambda images: None):
    """A network of one product, which notes its batches."""

    def compute(params, images):
        jax.debug.callback(note, images)
        rows = images.reshape(len(images), -1).astype("float32")
        return ImageFeatures(rows @ params["kernel"])

    return FeatureNetwork("tiny", "", "", {"kernel": np.ones((48, 5), np.float32)}, compute)


def test_whole_batches_are_measured_after_one(speed):
    batches = []
    network = tiny(lambda images: batches.append(len(images)))
    assert speed.images_per_second(network, speed.BATCH + 1, SHAPE) > 0
    jax.effects_barrier()
    assert sum(batches) == 3 * speed.BATCH


def test_the_roofline_is_that_of_one_batch(speed):
    chip = TPUS["v5e"]
    with jax.set_mesh(jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"))):
        moved = speed.least_seconds(tiny(), chip, SHAPE) * chip.memory_bandwidth
    least = speed.BATCH * 48 + 4 * (48 * 5 + speed.BATCH * 5)
    assert least <= moved < 10 * least


def test_networks_are_made_up_with_the_published_lengths(speed):
    inception = speed.made_up("inception", speed.inception_entries(), speed.inception)
    lite = speed.made_up("efficientnet", speed.efficientnet_entries(), speed.efficientnet)
    assert inception.lengths()["pool"] == 2048 and lite.lengths()["pool"] == 1280
