"""A name for the weights of a tokenizer."""

import hashlib

import jax
import numpy as np

from mvar_jax.array_types import Params, path_name


def checksum(params: Params) -> str:
    """The SHA-256 over names, shapes and float32 values of all parameters, 64 hexadecimal digits.

    Two tokenizers of one config make the same tokens of everything if their checksums are equal.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):  # in the order of the names
        values = np.ascontiguousarray(leaf, "<f4")
        name = path_name(path)
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values)
    return digest.hexdigest()
