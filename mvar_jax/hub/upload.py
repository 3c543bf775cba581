"""Uploads of a folder to the Hugging Face Hub."""

from pathlib import Path

from mvar_jax.checks import check
from mvar_jax.files import local_copy
from mvar_jax.hub.address import HubAddress
from mvar_jax.hub.failures import UnreachableError, explain, hub_library


def upload(folder: Path, repository: str, *, private: bool = False) -> HubAddress:
    """Uploads all files of a folder, maybe of a bucket, in one commit; returns its address, pinned.

    The repository is created if it is missing, `private` if so asked; files of other names in it
    stay. Raises ValueError where the Hub does not allow it, cannot be reached, or has the
    repository for all to read although a private one is asked for: nothing is changed there then.
    """
    hub, address, folder = hub_library(), HubAddress(repository), local_copy(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    added = [hub.CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
    api = hub.HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        check(  # one that was there stays as it was
            not private or bool(api.model_info(repository).private),
            f"{address}: it is there already, for all to read, expected a private one; make it "
            "private in its settings, or leave out private.",
        )
        commit = api.create_commit(repository, added, commit_message="Share a model of mvar_jax")
    except Exception as error:  # of many kinds, see `explain`
        reason = explain(address, error)
        if not isinstance(reason, UnreachableError):
            raise reason from None
        raise ValueError(
            f"{address}: the Hub cannot be reached ({reason}); upload {folder} later, by hf upload "
            f"{repository} {folder}."
        ) from None
    return HubAddress(repository, commit.oid)
