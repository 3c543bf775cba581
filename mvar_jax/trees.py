"""Trees of arrays."""

import jax


def path_name(path: tuple) -> str:
    """The path of a leaf as jax.tree_util gives it, written as in `blocks_0/ffn/up/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
