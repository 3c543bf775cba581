"""The checksum of weights: any weight changes it, and those in saved files stay valid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.models.checksum import checksum, embeddings_checksum

PARAMS = {
    "class_embedding": np.arange(6, dtype=np.float32).reshape(2, 3),
    "head": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)},
    "level_embedding": np.arange(3, dtype=np.float32) / 4,
    "start_position": np.ones((1, 3), np.float32),
}
# Names that manifests of tokens and profiles hold: they must never change.
NAME = "cd763b86820a4a71241ef5765ed1e163c8fd0a46cad951e2cfad4ba98b49ff41"
SHORT_NAME = "71d049fe5d12aa25"


def test_checksums_in_saved_files_stay_valid():
    assert checksum(PARAMS) == NAME
    assert embeddings_checksum(PARAMS) == SHORT_NAME


def test_the_checksum_depends_on_values_not_on_layout_order_or_dtype():
    assert checksum(jax.tree.map(jnp.asarray, PARAMS)) == NAME
    turned = {**PARAMS, "class_embedding": np.asfortranarray(PARAMS["class_embedding"])}
    assert checksum(turned) == NAME
    assert checksum(dict(reversed(PARAMS.items()))) == NAME
    bfloat16 = jax.tree.map(lambda array: jnp.asarray(array, jnp.bfloat16), PARAMS)
    assert checksum(bfloat16) == NAME  # these numbers are exact in it


@pytest.mark.parametrize("name", PARAMS)
def test_any_value_changes_the_checksum(name):
    def changed(path, array):
        if path[0].key != name:
            return array
        array = array.copy()
        array.flat[-1] = np.nextafter(array.flat[-1], np.float32(np.inf))
        return array

    assert checksum(jax.tree_util.tree_map_with_path(changed, PARAMS)) != NAME


def test_shapes_and_names_change_the_checksum():
    reshaped = {**PARAMS, "class_embedding": PARAMS["class_embedding"].reshape(3, 2)}
    renamed = {**PARAMS, "tail": PARAMS["head"]}
    del renamed["head"]
    assert len({NAME, checksum(reshaped), checksum(renamed)}) == 3
