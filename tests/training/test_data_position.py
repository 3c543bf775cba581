"""The place in the data for another number of processes: counted as it would be read."""

import itertools

import grain
import numpy as np
import pytest

from mvar_jax.training.data_position import is_of_this_process, wind
from tests.training.tiny import train_batches


def test_wound_to_where_reading_leads():
    read, wound = iter(train_batches()), iter(train_batches())
    for _ in range(13):  # more than an epoch
        next(read)
    wind(wound, 13)
    for one, other in zip(itertools.islice(read, 3), wound):
        np.testing.assert_array_equal(one["image"], other["image"])


def test_what_cannot_be_counted_is_refused():
    uneven = grain.MapDataset.range(100).filter(lambda i: i % 7 == 0 or i > 20)
    with pytest.raises(ValueError, match="cannot be counted for another number of processes"):
        wind(iter(uneven.to_iter_dataset().batch(2)), 3)


def test_which_process_saved_it(tmp_path):
    assert is_of_this_process(tmp_path / "missing")
    (tmp_path / "process_0-of-2.json").touch()
    assert not is_of_this_process(tmp_path)
    (tmp_path / "process_0-of-1.json").touch()
    assert is_of_this_process(tmp_path)
