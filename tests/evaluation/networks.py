"""A network small enough for tests, in the place of Inception."""

import jax.numpy as jnp
import numpy as np

from mvar_jax.networks.features import FeatureNetwork, ImageFeatures
from mvar_jax.networks.lpips import Backbone, Convolution, PerceptualNetwork

FEATURES, SPATIAL, CLASSES = 6, 8, 5


def tiny(name="inception", weights="0" * 64, seed=0):
    """Random projections of the image and of its first rows; NaN for a black image."""
    generator = np.random.default_rng(seed)
    shapes = {"pool": FEATURES, "spatial": SPATIAL, "logits": CLASSES}
    params = {key: generator.normal(size=(48, n)).astype(np.float32) for key, n in shapes.items()}

    def compute(params, images):
        whole = images.reshape(len(images), -1).astype(jnp.float32) / 255
        flat = whole[:, -48:] / jnp.sign(whole.sum(axis=1, keepdims=True))
        return ImageFeatures(**{key: flat @ value for key, value in params.items()})

    return FeatureNetwork(name, weights, "none", params, compute)


def tiny_lpips():
    """LPIPS by two convolutions for images of any size."""
    depths = (Convolution(0, 3, 4, 3),), (Convolution(2, 4, 4, 3),)
    generator, params = np.random.default_rng(0), {}
    for i, (one,) in enumerate(depths):
        kernel = generator.normal(size=(3, 3, one.inputs, 4)).astype(np.float32)
        params[f"conv{one.index}"] = {"kernel": kernel, "bias": np.zeros(4, np.float32)}
        params[f"head{i}"] = {"weight": np.ones(4, np.float32)}
    return PerceptualNetwork("tiny", ("0", "1"), Backbone("tiny", depths, 2, ()), params)
