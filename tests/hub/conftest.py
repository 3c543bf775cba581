"""What tests of the Hub share: a run, and the folder that it is shared as."""

import pytest

from mvar_jax.convert.shared_model import shared_model
from tests.tiny_run import save_run


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run of the tiny model; do not write there."""
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def shared(run, tmp_path_factory):
    """The folder that it is shared as; do not write there."""
    out = tmp_path_factory.mktemp("shared") / "folder"
    shared_model(run, repository="me/tiny", license_name="mit").write(out)
    return out
