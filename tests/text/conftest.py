"""What tests of the text room share."""

import pytest

from mvar_jax.convert.text_encoder import load_text_encoder
from tests.text.builders import write_t5


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory):
    """A folder with a tiny T5; do not write there."""
    return write_t5(tmp_path_factory.mktemp("texts") / "tiny-t5")


@pytest.fixture(scope="session")
def encoder(t5_folder):
    """The encoder of that folder."""
    return load_text_encoder(t5_folder)
