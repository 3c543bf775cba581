"""What tests of the Hub share: the stand-in, and a folder to share."""

import huggingface_hub.constants
import pytest

from mvar_jax.convert.shared_model import shared_model
from tests.hub.stand_in import StandIn
from tests.tiny_run import save_run

FILES = "/{repo_id}/resolve/{revision}/{filename}"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The stand-in, which `huggingface_hub` asks in this process, with a cache of its own."""
    stand_in = StandIn()
    stand_in.cache = tmp_path / "home" / "hub"
    with stand_in.running() as endpoint:
        stand_in.environment = {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
        }
        settings = {
            "ENDPOINT": endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + FILES,
            "HF_HUB_CACHE": str(stand_in.cache),
            "HF_TOKEN_PATH": str(tmp_path / "home" / "token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }
        for name, value in settings.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield stand_in


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
