"""Every process reads its rows, together they read all, and a place is the same for all."""

from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from orbax.checkpoint import v1 as ocp

from mvar_jax.config import DataConfig
from mvar_jax.data.global_batches import GlobalBatches, GlobalEvaluation
from mvar_jax.data.pipeline import eval_batches, eval_records, train_batches
from mvar_jax.mesh.sharding import BatchLayout

SIZE, BATCH = (32, 32), 8


@pytest.fixture
def data(digits_directory):
    return DataConfig(
        name="digits", directory=digits_directory, augmentation="shift", num_threads=0
    )


@dataclass(frozen=True)
class Part(BatchLayout):
    """The layout of one of two processes, whose rows alternate; parts stay apart."""

    process: int = 0
    mesh: AbstractMesh = field(default_factory=lambda: AbstractMesh((2, 1), ("data", "fsdp")))

    def rows(self, size):
        return np.arange(size)[self.process :: 2] if size % 2 == 0 else np.arange(size)

    def place(self, rows, size):
        return {name: jnp.asarray(array) for name, array in (rows | {"size": size}).items()}


def training(data, process):
    layout = Part(process=process)
    rows = layout.rows(BATCH)
    return GlobalBatches(
        lambda first: train_batches(data, SIZE, BATCH, seed=3, rows=rows, first=first),
        lambda part: layout.place(part, BATCH),
    )


def check_parts(parts, whole):
    joined = np.empty_like(whole)
    for process, part in enumerate(parts):
        joined[process::2] = part
    np.testing.assert_array_equal(joined, whole)


def test_parts_of_two_processes_are_the_batches_of_one(data):
    whole = iter(train_batches(data, SIZE, BATCH, seed=3))
    parts = [iter(training(data, process)) for process in (0, 1)]
    for _ in range(3):
        batch, own = next(whole), [next(part) for part in parts]
        for name in ("image", "label"):  # of the same shifts too
            check_parts([part[name] for part in own], batch[name])


def test_a_place_is_a_number_of_batches_for_every_process(data, tmp_path):
    first, second = (iter(training(data, process)) for process in (0, 1))
    expected = [next(second)["image"] for _ in range(5)]
    for _ in range(3):
        next(first)
    assert first.get_state() == {"next_batch": 3}
    ocp.save_checkpointables(tmp_path / "saved", {"data": first})
    resumed = iter(training(data, 1))
    ocp.load_checkpointables(tmp_path / "saved", {"data": resumed})
    assert resumed.get_state() == {"next_batch": 3}
    np.testing.assert_array_equal(next(resumed)["image"], expected[3])
    np.testing.assert_array_equal(next(resumed)["image"], expected[4])


@pytest.mark.parametrize("place", [{}, [], {"next_batch": -1}, {"next_batch": "3"}])
def test_what_is_no_place_is_refused(data, place):
    with pytest.raises(ValueError, match="expected the number of a batch"):
        iter(training(data, 0)).set_state(place)


@pytest.mark.parametrize("images, sizes", [(20, [8, 8, 4]), (13, [8, 5]), (8, [8]), (3, [3])])
def test_evaluation_reads_all_images_and_an_odd_rest_everywhere(data, images, sizes):
    split = f"test[:{images}]"
    whole = list(eval_batches(data, SIZE, BATCH, split=split))
    records = eval_records(data, SIZE, split)
    parts = [list(GlobalEvaluation(records, BATCH, data, layout=Part(process=i))) for i in (0, 1)]
    assert [int(batch["size"]) for batch in parts[0]] == sizes == [len(b["label"]) for b in whole]
    for batch, first, second in zip(whole, *parts, strict=True):
        if len(batch["label"]) % 2 == 0:
            check_parts([first["image"], second["image"]], batch["image"])
        else:
            np.testing.assert_array_equal(first["image"], batch["image"])
            np.testing.assert_array_equal(second["image"], batch["image"])
