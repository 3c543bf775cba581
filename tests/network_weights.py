"""Random weights by name and shape, as the reference arrays of all networks were computed with."""

import math
import zlib
from collections.abc import Mapping

import numpy as np


def recipe_generator(name: str) -> np.random.Generator:
    """The random numbers that belong to a name."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def recipe_array(name: str, shape: tuple[int, ...], std: float = 1.0, mean: float = 0.0):
    """float32 normal numbers of a shape, seeded by the name."""
    values = recipe_generator(name).standard_normal(shape, dtype=np.float32)
    return values * np.float32(std) + np.float32(mean)


def network_weights(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> dict[str, np.ndarray]:
    """A weight for every official name of Inception or, with a prefix, of LPIPS."""
    make = _perceptual if prefix else _inception
    return {name: make(prefix + name, name, shape) for name, shape in shapes.items()}


def _inception(seed: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith(".bn.weight"):
        return recipe_array(seed, shape, 0.1, 1.0)
    if name.endswith((".bn.bias", ".bn.running_mean")):
        return recipe_array(seed, shape, 0.2)
    if name.endswith(".bn.running_var"):
        return np.abs(recipe_array(seed, shape)) * np.float32(0.3) + np.float32(0.7)
    if name.startswith("fc."):
        return recipe_array(seed, shape, 0.1 if name == "fc.weight" else 1.0)
    kernel = recipe_array(seed, shape, 1.45 / math.sqrt(math.prod(shape[1:])))
    # Half of every filter's mean is taken out, so that different images stay apart.
    half = kernel.mean(axis=(1, 2, 3), dtype=np.float64, keepdims=True) * 0.5
    return kernel - half.astype(np.float32)


def _perceptual(seed: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.startswith("lin"):
        return np.abs(recipe_array(seed, shape))
    return recipe_array(
        seed, shape, 0.1 if name.endswith(".bias") else math.sqrt(2 / math.prod(shape[1:]))
    )
