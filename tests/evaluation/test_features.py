"""Features of image sets do not depend on batches; images without any are named."""

import subprocess
import sys

import numpy as np
import pytest

from mvar_jax.data.image_sets import open_images
from mvar_jax.evaluation.features import FeatureExtractor
from tests.evaluation.networks import FEATURES, tiny
from tests.shared import eight_devices

IMAGES = np.random.default_rng(0).integers(1, 256, (7, 4, 4, 3), np.uint8)


def features(tmp_path, images, batch_size):
    np.savez(tmp_path / "a.npz", images)
    done = []
    extractor = FeatureExtractor(tiny(), batch_size)
    found = list(extractor.features(open_images(tmp_path / "a.npz"), done.append))
    assert done == [*range(batch_size, 7, batch_size), 7]
    return np.concatenate([one.pool for one in found])


def test_batches_change_nothing(tmp_path):
    expected = features(tmp_path, IMAGES, 7)
    assert expected.shape == (7, FEATURES)
    for size in (1, 3):
        np.testing.assert_allclose(features(tmp_path, IMAGES, size), expected, rtol=1e-5)


def test_an_image_whose_features_are_nan_is_named(tmp_path):
    images = IMAGES.copy()
    images[5] = 0
    with pytest.raises(ValueError, match=r"a.npz, image 5: inception has NaN or infinite features"):
        features(tmp_path, images, 3)


ON_EIGHT = """
import sys
import numpy as np
from mvar_jax.evaluation.features import FeatureExtractor
from tests.evaluation.networks import tiny
images = np.random.default_rng(0).integers(1, 256, (7, 4, 4, 3), np.uint8)
extractor = FeatureExtractor(tiny(), 3)
assert extractor.batch_size == 8
np.save(sys.argv[1], extractor(images).pool)
"""


def test_devices_change_nothing(tmp_path):
    command = [sys.executable, "-c", ON_EIGHT, str(tmp_path / "eight.npy")]
    subprocess.run(command, env=eight_devices(), check=True)
    found = np.load(tmp_path / "eight.npy")
    np.testing.assert_allclose(found, features(tmp_path, IMAGES, 7), rtol=1e-5)
