"""Starts codes and trains with restarts on eight devices and on one; run it as a program."""

import jax
import numpy as np

from mvar_jax.config import CodebookConfig, MeshConfig
from mvar_jax.mesh.sharding import BatchLayout, make_mesh
from mvar_jax.models.parameters import param_shardings
from mvar_jax.training.codebook import CodebookCare
from mvar_jax.training.codebook_start import start_codes
from mvar_jax.training.state import new_state, state_shapes
from mvar_jax.training.tokenizer_step import make_tokenizer_step
from tests.training.on_meshes import batch, check_shardings
from tests.training.tiny import CONFIG, TOKENIZER, optimizer, tokenizer_params

BATCH, STEPS = 8, 6
CARE = CodebookCare(
    TOKENIZER,
    CodebookConfig(restart_below=0.5, restart_window=2, dropout_rate=0.5, dropout_from=1),
    seed=3,
)


def train(layout: BatchLayout) -> tuple[dict, list[dict], dict]:
    """The first codes, metrics of some steps, and what is kept of codes."""
    with jax.set_mesh(layout.mesh):
        params = tokenizer_params()
        params = jax.device_put(params, param_shardings(params, layout.mesh))
        placed = [layout.place(batch(index), BATCH) for index in range(STEPS)]
        params = start_codes(TOKENIZER, params, Batches(placed), 2, seed=5)
        started = np.asarray(params["quantizer"]["codebook"])
        decay = CONFIG.training.ema_decay
        shapes = state_shapes(params, optimizer(), decay, CARE.start)
        state = new_state(params, optimizer(), decay, CARE.start)
        step, rows = make_tokenizer_step(TOKENIZER, optimizer(), CONFIG.training, care=CARE), []
        for one in placed:
            state, metrics = step(state, one)
            rows.append(jax.device_get(metrics))
        check_shardings(state, layout.mesh)
        assert jax.tree.structure(shapes) == jax.tree.structure(state)
    return started, rows, jax.device_get(state.extra)


class Batches(list):
    """Batches whose iterators close, as those of a run's data."""

    def __iter__(self):
        yield from super().__iter__()


def main() -> None:
    """Compares the meshes with one device."""
    started, rows, kept = train(BatchLayout(make_mesh(MeshConfig(), jax.devices()[:1])))
    assert rows[-1]["restarted"] > 0
    for shape in ((8, 1, 1), (2, 4, 1)):
        own_start, own_rows, own_kept = train(BatchLayout(make_mesh(MeshConfig(*shape))))
        np.testing.assert_allclose(own_start, started, atol=1e-5)
        for own, row in zip(own_rows, rows, strict=True):
            for name, value in row.items():
                np.testing.assert_allclose(own[name], value, rtol=1e-4, err_msg=name)
        jax.tree.map(np.testing.assert_array_equal, own_kept, kept)
        print("equal on", shape)


if __name__ == "__main__":
    main()
