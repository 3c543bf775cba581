"""What is wrong when the Hub gives no file, in one sentence each."""

import importlib
from types import ModuleType

from mvar_jax.checks import first_line, install_command
from mvar_jax.hub.address import HubAddress

# `huggingface_hub` asks by one of these, depending on its version; their errors have no common
# class. Those of requests are OSErrors.
HTTP_LIBRARIES = ("httpx", "httpx2")
TOO_MANY, OWN_ERRORS = 429, 500  # status codes of HTTP, the latter and above
REJECTED = (401, 403)
LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"


class UnreachableError(Exception):
    """The Hub gave no answer: offline, no connection, or an error of its own."""


def hub_library() -> ModuleType:
    """The package `huggingface_hub`. Raises ValueError where it is missing."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise ValueError(
            "models of the Hub need the package huggingface_hub; install it by "
            f"{install_command('hub')}."
        ) from None


def explain(address: HubAddress, error: Exception) -> Exception:
    """What to raise for an error of `huggingface_hub`: ValueError, UnreachableError or itself."""
    errors = hub_library().errors
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status = _status(error)
    refused = {
        errors.GatedRepoError: "its owner asks who uses it; ask for access on "
        f"{_page(address)}, then {LOG_IN}.",
        errors.RepositoryNotFoundError: "the Hub has no model of that name, or it is private; "
        f"check {_page(address)}, and for a private one {LOG_IN}.",
        errors.RevisionNotFoundError: f"the model has no revision {address.revision!r}; name a "
        "branch, a tag or a commit of it, or leave it out.",
    }
    for kind, sentence in refused.items():  # the first is a kind of the second
        if isinstance(error, kind):
            return ValueError(f"{address}: {sentence}")
    if _is_unreachable(error, status):
        return UnreachableError(first_line(error))
    if status in REJECTED:
        return ValueError(
            f"{address}: the Hub does not let this token do that, or needs one ({status}); "
            f"{LOG_IN}, to one that may."
        )
    return error if status is None else ValueError(f"{address}: the Hub says {first_line(error)}.")


def _status(error: Exception) -> int | None:
    """The status code of the Hub's answer, None where it gave none."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_unreachable(error: Exception, status: int | None) -> bool:
    if status is not None:
        return status == TOO_MANY or status >= OWN_ERRORS
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or library in HTTP_LIBRARIES


def _page(address: HubAddress) -> str:
    return f"{hub_library().constants.ENDPOINT}/{address.repository}"
