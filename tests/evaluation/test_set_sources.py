"""Sets of images by where they come from; a split is read once for all that is found in it."""

import hashlib

import numpy as np
import pytest

from mvar_jax.evaluation.set_sources import HashedImages

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3), np.uint8)
DIGEST = hashlib.sha256(PIXELS.tobytes()).hexdigest()


class Counted:
    """Images that know how many of them were read."""

    count, size, read = 5, (2, 3), 0

    def name(self, index):
        return f"image {index}"

    def batches(self, size):
        for first in range(0, self.count, size):
            batch = PIXELS[first : first + size]
            self.read += len(batch)
            yield batch


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_images_that_were_read_are_not_read_again_for_their_digest(size):
    images = HashedImages(own := Counted())
    np.testing.assert_array_equal(np.concatenate(list(images.batches(size))), PIXELS)
    assert images.digest() == DIGEST and own.read == 5
    assert (images.count, images.size, images.name(3)) == (5, (2, 3), "image 3")


def test_images_that_were_not_read_to_their_end_are_read_for_their_digest():
    images = HashedImages(own := Counted())
    next(images.batches(2))
    assert images.digest() == DIGEST and own.read == 2 + 5
    assert images.digest() == DIGEST and own.read == 2 + 5
