"""A name for the weights of a trunk or tokenizer, which changes with any of them."""

import hashlib

import jax
import numpy as np

from mvar_jax.array_types import Params, path_name
from mvar_jax.mesh.processes import on_host

GLIMPSED = 64  # values
EMBEDDINGS = ("class_embedding", "level_embedding", "start_position")


def checksum(params: Params) -> str:
    """The SHA-256 over names, shapes and float32 values of all parameters, 64 hexadecimal digits.

    Two models of one config compute the same if their checksums are equal. Heads that a policy
    reordered and kernels that sampling narrowed change it: compute it before. Every array is copied
    to the host as a whole (where JAX keeps the copy as long as the array lives); where parameters
    are split over devices of several processes, all of these compute it together. About 1.5 GB per
    second with a CPU's SHA instructions, 0.4 without.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):  # in the order of the names
        values = np.ascontiguousarray(on_host(leaf), "<f4")
        name = path_name(path)
        digest.update(f"{name} {values.shape}\n".encode())
        digest.update(values.data)
    return digest.hexdigest()


def tokenizer_names(params: Params) -> tuple[str, str]:
    """The checksums that what was learned from a tokenizer's tokens names it by.

    The first is of all but the decoder, which decides no token; the second of all parameters, as
    earlier versions wrote it.
    """
    tokens = {name: tree for name, tree in params.items() if not name.startswith("decoder")}
    return checksum(tokens), checksum(params)


def glimpse(params: Params) -> str:
    """A digest of the first values of every parameter, which takes next to no time.

    It tells weights apart of which one were trained from the other, not those that were altered on
    purpose. Processes compute it together, as `checksum`.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(_first_values(params)):
        digest.update(f"{path_name(path)}\n".encode())
        digest.update(np.asarray(on_host(leaf), np.float32).tobytes())
    return digest.hexdigest()


@jax.jit
def _first_values(params):
    return jax.tree.map(lambda leaf: leaf[(0,) * (leaf.ndim - 1)][:GLIMPSED], params)


def embeddings_checksum(params: Params) -> str:
    """The name of a trunk's weights in attention profiles of format 1, 16 hexadecimal digits.

    It is computed from three embeddings only, of which models of texts have two: trunks that share
    these share the name.
    """
    digest = hashlib.sha256()
    for name in filter(params.__contains__, EMBEDDINGS):
        digest.update(np.asarray(on_host(params[name]), np.float32).tobytes())
    return digest.hexdigest()[:16]
