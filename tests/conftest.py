"""What tests of several rooms share."""

import pytest

from mvar_jax.data.source import load_source


@pytest.fixture(scope="session")
def digits_directory(tmp_path_factory):
    """A directory of TFDS data that holds the digits, prepared once for all tests."""
    directory = str(tmp_path_factory.mktemp("tfds"))
    load_source("digits", "train", directory)
    return directory
