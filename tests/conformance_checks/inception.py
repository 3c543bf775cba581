"""The Inception network of 2015, from the images that a reference file stores."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.convert.inception_names import inception_entries
from mvar_jax.convert.names import read_params
from mvar_jax.networks import inception
from mvar_jax.networks.layers import fold_norms
from mvar_jax.ops.resize import resize_bilinear
from tests.reference import ReferenceFile

GIVEN = re.compile("images")
TAPS = {"feat64": "MaxPool_1", "feat192": "MaxPool_2", "feat768": "Mixed_6e"}


def compute(file: ReferenceFile) -> dict[str, np.ndarray]:
    """Grids of the resize, maps of every stage, features, logits."""
    entries, images = list(inception_entries()), file["images"]
    params = fold_norms(read_params(entries, file.network_weights(entries)), inception.NORM_EPSILON)
    resized, maps, found, other = jax.jit(_run)(params, images)
    resized = np.moveaxis(np.asarray(resized), -1, 1)
    gaps = {name: np.mean(values, axis=(1, 2)) for name, values in maps.items()}
    return {
        **dict(_grids(images.shape[1:3])),
        "resized": resized,
        "resized__bottom_right": resized[..., -24:, -24:],
        **{f"gap_{name}": gap for name, gap in gaps.items()},
        **{f"act_{name}": _part(file, name, values) for name, values in maps.items()},
        **{tap: gaps[name] for tap, name in TAPS.items()},
        "spatial": np.reshape(found.spatial, (-1, 17, 17, inception.SPATIAL_CHANNELS)),
        "pool3": found.pool,
        "logits_unbiased": found.logits,
        "logits": found.logits + params["fc"]["bias"],
        "probs": jax.nn.softmax(found.logits),
        "pool3_pytorch_fid_preprocessing": other,
    }


def _run(params, images):
    resized = inception.prepare(images)
    halves = resize_bilinear(images.astype(jnp.float32) / 255, (inception.SIDE, inception.SIDE))
    other = inception.inception_maps(params, 2 * halves - 1)["Mixed_7c"].mean(axis=(1, 2))
    maps = inception.inception_maps(params, resized)
    return resized, maps, inception.inception_features(params, images), other


def _grids(size):
    for axis, side in zip("yx", size):
        for part, values in zip(("lo", "hi", "frac"), inception.sampling_grid(side)):
            yield f"grid_{axis}_{part}", values


def _part(file, name, maps):
    """What is stored of a stage: some channels of the first image, every so many pixels."""
    stride, channels = file.config["act_stride"][name], file.config["act_channels"][name]
    return np.moveaxis(np.asarray(maps[0]), -1, 0)[channels, ::stride, ::stride]
