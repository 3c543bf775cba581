"""The object beside a folder of a bucket that is being uploaded, which says who does it.

The folder is not whole while the object is there. A process that was killed leaves it, so whoever
comes next puts its own in its place: only the last one goes on, and removes it.
"""

import errno
import os
import socket
import uuid

from mvar_jax.checks import check
from mvar_jax.files.buckets import BucketPath
from mvar_jax.files.versions import read_version, remove_version, write_version
from mvar_jax.files.whole import draft_of


class UploadMark:
    """Says that this process uploads a folder, no longer those that did before.

    Making one raises OSError where the folder is whole. All raise ValueError where another process
    marked the folder meanwhile.
    """

    def __init__(self, folder: BucketPath):
        self._path = BucketPath(draft_of(folder))
        who = f"process {os.getpid()} on {socket.gethostname()}, {uuid.uuid4().hex}"
        self._text = f"Until this is gone, {who}, uploads the folder beside it.\n".encode()
        self._taken = (
            f"{folder}: another process uploads this folder too; let it end, or name another one."
        )
        seen = read_version(self._path).generation
        if not seen and folder.exists():
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))
        try:
            write_version(self._path, self._text, seen)
        except FileExistsError:
            raise ValueError(self._taken) from None

    def check_ours(self) -> int:
        """The generation of the mark."""
        found = read_version(self._path)
        check(found.content == self._text, self._taken)
        return found.generation

    def remove(self) -> None:
        """Makes the folder whole."""
        try:
            remove_version(self._path, self.check_ours())
        except (FileExistsError, FileNotFoundError):
            raise ValueError(self._taken) from None
