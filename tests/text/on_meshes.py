"""Encodes prompts on several meshes of eight devices and compares; run it as a program."""

import re
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from mvar_jax.config import MeshConfig
from mvar_jax.convert.text_encoder import load_text_encoder
from mvar_jax.mesh.sharding import make_mesh
from mvar_jax.text.t5_encoder import _apply
from tests.text.builders import SENTENCES, write_t5

PROMPTS = [*SENTENCES[:5], "", "a", " ".join(SENTENCES[:3])]


def check_places(encoder, mesh) -> None:
    """Large parameters are split; they are gathered layer by layer, never as a stack."""
    query = encoder.params["layers"]["attention"]["query"]
    share = mesh.shape["fsdp"] * mesh.shape["tensor"]
    assert query.addressable_shards[0].data.size * share == query.size
    tokens, mask = np.zeros((8, 16), np.int32), np.ones((8, 16), bool)
    with jax.set_mesh(mesh):
        program = _apply.lower(encoder.config, encoder.params, tokens, mask).compile().as_text()
    stacks = {leaf.shape for leaf in jax.tree.leaves(encoder.params["layers"]) if leaf.ndim > 2}
    made = re.findall(r"= \(?f32\[([\d,]*)\][^=]*? all-gather(?:-start)?\(", program)
    assert not {tuple(map(int, shape.split(","))) for shape in made if shape} & stacks


def main(shapes: list[str]) -> None:
    """Compares meshes, each written as 2,2,2, with one device."""
    with tempfile.TemporaryDirectory() as folder:
        write_t5(Path(folder))
        expected = load_text_encoder(folder).encode(PROMPTS)
        for shape in shapes:
            mesh = make_mesh(MeshConfig(*map(int, shape.split(","))))
            encoder = load_text_encoder(folder, mesh=mesh)
            made = encoder.encode(PROMPTS)
            np.testing.assert_array_equal(made.mask, expected.mask)
            np.testing.assert_allclose(made.features, expected.features, atol=1e-5)
            check_places(encoder, mesh)
            print("equal on", shape)


if __name__ == "__main__":
    main(sys.argv[1:])
