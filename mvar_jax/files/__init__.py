"""Files and folders on a disk or in a bucket: paths, verbs to publish and to read, growing logs.

A path of a bucket, `gs://BUCKET/KEY`, is a `BucketPath`, which has the methods of `pathlib`. What
disks and buckets do differently, how a file or folder appears whole, how a file grows and how a
lock is taken, is here, once.
"""

from mvar_jax.files.buckets import BUCKETS, BucketPath, check_manageable
from mvar_jax.files.copies import cache_folder, copy_folder, input_path, local_copy
from mvar_jax.files.folders import (
    draft_folder,
    is_whole,
    move_folder,
    names_below,
    publish,
    remove_folder,
)
from mvar_jax.files.growing import GrowingFile, read_grown
from mvar_jax.files.json_files import load_json, parse_json, write_json
from mvar_jax.files.paths import HUB, folder_exists, user_path
from mvar_jax.files.versions import Version, read_version, remove_version, write_version
from mvar_jax.files.whole import (
    UNFINISHED,
    check_unused,
    check_writable,
    draft_of,
    file_checksum,
    naming_errors,
    write_text,
    written_whole,
)

__all__ = [
    "BUCKETS",
    "HUB",
    "UNFINISHED",
    "BucketPath",
    "GrowingFile",
    "Version",
    "cache_folder",
    "check_manageable",
    "check_unused",
    "check_writable",
    "copy_folder",
    "draft_folder",
    "draft_of",
    "file_checksum",
    "folder_exists",
    "input_path",
    "is_whole",
    "load_json",
    "local_copy",
    "move_folder",
    "names_below",
    "naming_errors",
    "parse_json",
    "publish",
    "read_grown",
    "read_version",
    "remove_folder",
    "remove_version",
    "user_path",
    "write_json",
    "write_text",
    "write_version",
    "written_whole",
]
