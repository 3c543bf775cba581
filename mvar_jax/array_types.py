"""The legend of dimension letters, and the array types that signatures are written in.

Shape strings are space-separated names from this legend; a name keeps one meaning everywhere:

    batch     images (or guidance rows) in a batch
    references  images that a batch is compared with
    features  features of an image, such as a classifier's activations
    classes   classes of a classifier
    n         tokens of a sequence (one scale, or all of them joined)
    m         key tokens that queries attend to
    total     tokens of the whole schedule
    scales    number of scales
    width     channels of the trunk, written C in the papers
    heads     attention or state-space heads
    dim       channels of one head
    state     size of the state-space state, written N in Mamba-2
    branches  residual branches of a block
    draws     random numbers of one image
    groups    modulation vectors of a block (6 for VAR, 9 for M-VAR)
    logits    logits per token
    vocab     number of codes, or of a text's tokens
    length    text tokens of a prompt, with padding
    buckets   buckets of relative positions
    code      channels of a code, written Cvae or z in VAR
    word      channels of a token's codes: code, or more where a token folds several positions
    bits      bits of a token, or of a position of the tokenizer's map
    symbols   what a token is made of: one code, or its bits
    values    values of a symbol
    clusters  centres of clusters of vectors
    height, width_px (or h, w)   extent of an image or feature map
    channels  channels of a feature map
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Key, Shaped, UInt

Array: TypeAlias = jax.Array
HostArray: TypeAlias = np.ndarray | jax.Array  # read on the host
PyTree: TypeAlias = Any  # a nested dict, tuple or dataclass whose leaves are arrays
Leaf: TypeAlias = Any  # an array, or a shape or sharding in its place
Params: TypeAlias = dict[str, Any]  # plain nested dict of parameters
Example: TypeAlias = dict[str, Any]  # one image of a dataset, or its tokens, by name

__all__ = [
    "Array",
    "Bool",
    "Example",
    "Float",
    "HostArray",
    "Int",
    "Key",
    "Leaf",
    "Params",
    "PyTree",
    "Shaped",
    "UInt",
    "at_path",
    "batch_size",
    "in_32_bits",
    "path_name",
]


def path_name(path: tuple) -> str:
    """A path of jax.tree_util as text, such as `blocks_0/ffn/up/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def at_path(tree: PyTree, path: tuple) -> PyTree:
    """What nested dicts hold at a path of jax.tree_util, an array or a dict; None for nothing."""
    for key in path:
        tree = tree.get(key.key) if isinstance(tree, dict) else None
    return tree


def batch_size(batch: PyTree) -> int:
    """The length of the first axis, which all arrays of a batch share."""
    return len(jax.tree.leaves(batch)[0])


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_32_bits(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function with 64-bit types disabled, whatever `jax_enable_x64` says.

    The library states the dtypes that its results depend on. Its dependencies, from initializers to
    the optimizer, use JAX's default dtypes and would compute something else in 64 bits.
    """

    @wraps(function)
    def wrapped(*arguments: Arguments.args, **settings: Arguments.kwargs) -> Result:
        with jax.enable_x64(False):
            return function(*arguments, **settings)

    return wrapped
