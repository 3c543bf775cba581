"""The seal of a directory: a list of its files with checksums, to detect damage."""

import json
import zlib
from pathlib import Path

from mvar_jax.files import load_json, names_below, write_text

SEAL = "seal.json"
CHUNK_BYTES = 1 << 22


def write_seal(directory: Path) -> None:
    """Records the CRC-32 of every file below a directory in its `seal.json`."""
    checksums = {name: _checksum(directory / name) for name in names_below(directory)}
    write_text(directory / SEAL, json.dumps(checksums, indent=1))


def find_damage(directory: Path, parts: tuple[str, ...]) -> str | None:
    """The first file that is missing or differs from the seal, in words; None if there is none.

    Files in the subdirectories `parts` must be as they were written, and those directly in the
    directory must exist; other subdirectories may have been left out of a copy. A directory without
    a seal passes: its run was killed between writing and sealing.
    """
    if directory.is_file():
        return "it is a file, not a folder"
    if not (directory / SEAL).is_file():
        return None
    checksums = _sealed(directory)
    if checksums is None:
        return f"{SEAL} is not the file that was written"
    for name, checksum in checksums.items():
        part, slash, _ = name.partition("/")
        if slash and part not in parts:
            continue
        if not (directory / name).is_file():
            return f"{name} is missing"
        if slash and _checksum(directory / name) != checksum:
            return f"{name} is not the file that was written"
    return None


def sealed_parts(directory: Path) -> set[str]:
    """The files and folders directly in a sealed directory; empty if the seal cannot be read."""
    return {name.split("/")[0] for name in _sealed(directory) or {}}


def _sealed(directory: Path) -> dict[str, int] | None:
    """The checksums of a seal, None if it cannot be read."""
    try:
        checksums = load_json(directory / SEAL)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return checksums if isinstance(checksums, dict) else None


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
