"""Paths as users write them."""

from pathlib import Path

from mvar_jax.files.buckets import BUCKETS, BucketPath, open_bucket

HUB = "hf://"  # how the names of models on the Hugging Face Hub begin


def user_path(name: str | Path) -> Path:
    """A path as users write it, where ~ is their home and ~name that of another user.

    `gs://BUCKET/FOLDER` is a path in a bucket. Raises ValueError for the home of nobody, for a
    bucket that cannot be read, and for a model on the Hugging Face Hub, which is read where
    `hub.local_path` is called and never written.
    """
    if str(name).startswith(BUCKETS):
        return open_bucket(str(name))
    if str(name).startswith(HUB):
        raise ValueError(
            f"{name}: a model on the Hugging Face Hub is only read, and not as this; name a path "
            "on this machine (a new run starts from such a model by --init)."
        )
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{name}: found no home for {Path(name).parts[0]!r}, expected ~ or that of a user; "
            "write the whole path."
        ) from None


def folder_exists(folder: Path) -> bool:
    """Whether files can be made in a folder: in a bucket in any, elsewhere if it is there."""
    return isinstance(folder, BucketPath) or folder.is_dir()
