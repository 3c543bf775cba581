"""What tests of several rooms share."""

import hypothesis
import pytest

from mvar_jax.data.source import load_source

# The same examples in every run; compiling takes longer than any deadline.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def digits_directory(tmp_path_factory):
    """A directory of TFDS data that holds the digits, prepared once for all tests."""
    directory = str(tmp_path_factory.mktemp("tfds"))
    load_source("digits", "train", directory)
    return directory
