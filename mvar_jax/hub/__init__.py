"""Models on the Hugging Face Hub: their addresses, downloads and uploads."""

from mvar_jax.hub.address import HubAddress
from mvar_jax.hub.download import local_path, open_workdir
from mvar_jax.hub.kinds import TEXT_ENCODER, WEIGHT_FILES
from mvar_jax.hub.upload import upload

__all__ = ["TEXT_ENCODER", "WEIGHT_FILES", "HubAddress", "local_path", "open_workdir", "upload"]
