"""Files of the Hub, in its cache on this machine.

The revision is resolved to a commit once, which all files are of, and printed. Nothing that a
repository holds is trusted: only files of a `Kind` are downloaded, under names that stay inside,
with the sizes that the Hub states; what they hold is for their readers to check.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from mvar_jax.checks import check
from mvar_jax.files import HUB, input_path
from mvar_jax.hub.address import COMMIT, HubAddress, is_plain
from mvar_jax.hub.failures import UnreachableError, explain, hub_library
from mvar_jax.hub.kinds import SHARED, Kind
from mvar_jax.workdir import Workdir


def open_workdir(name: str | Path) -> Workdir:
    """The working directory of a path, or of `hf://OWNER/NAME`, to read and not to write.

    Raises ValueError as `Workdir.of` and `local_path` do.
    """
    if not _is_of_hub(name):
        return Workdir.of(name)
    pinned, path = _fetch(HubAddress.parse(str(name)), SHARED)
    return Workdir(path.absolute(), str(pinned))


def local_path(name: str | Path, kind: Kind) -> Path:
    """The path of a name as users write it; what `hf://...` names is downloaded if it is new.

    Without a connection it is taken from the cache. Raises ValueError where there is no such
    thing, it needs a token, the Hub cannot be reached and the cache has none, or it is unsound.
    """
    return _fetch(HubAddress.parse(str(name)), kind)[1] if _is_of_hub(name) else input_path(name)


def _is_of_hub(name: str | Path) -> bool:
    return isinstance(name, str) and name.startswith(HUB)


def _fetch(address: HubAddress, kind: Kind) -> tuple[HubAddress, Path]:
    """The address with the commit of its revision, and where that is in the cache."""
    try:
        commit, sizes = _list(address)
    except UnreachableError as error:
        files, note = _cached(address, kind, error), f", from the cache ({error})"
    else:
        names = kind.choose(address, sizes)
        files, note = [_download(address, name, commit) for name in names], ""
        for name, file in zip(names, files):
            _check_size(address, file, sizes[name])
    for file in files:
        _check_inside(address, file)
    root = _snapshot(files[0])
    size = sum(file.stat().st_size for file in files)
    pinned = HubAddress(address.repository, root.name, address.path)
    sys.stderr.write(f"{pinned}: {len(files)} file(s), {size / 1e6:.1f} MB{note}.\n")
    return pinned, root / address.path


def _list(address: HubAddress) -> tuple[str, Mapping[str, int | None]]:
    """The commit of the revision, and the files there with their sizes in bytes."""
    hub = hub_library()
    try:
        info = hub.HfApi().model_info(
            address.repository, revision=address.revision, files_metadata=True
        )
    except Exception as error:  # of many kinds, see `explain`
        raise explain(address, error) from None
    sizes = {file.rfilename: file.size for file in info.siblings or []}
    for name in sizes:
        check(is_plain(name), f"{address}: lists a file {name!r}, which would lie outside of it.")
    check(
        isinstance(info.sha, str) and bool(COMMIT.fullmatch(info.sha)),
        f"{address}: the Hub says that its commit is {info.sha!r}, expected 40 digits.",
    )
    return info.sha, sizes


def _download(address: HubAddress, name: str, commit: str) -> Path:
    """A file in the cache, as it is there or newly downloaded."""
    hub = hub_library()
    try:
        # By the revision, not the commit: the cache then knows it without a connection.
        file = Path(
            hub.HfApi().hf_hub_download(address.repository, name, revision=address.revision)
        )
    except Exception as error:
        reason = explain(address, error)
        if not isinstance(reason, UnreachableError):
            raise reason from None
        raise ValueError(
            f"{address}: {name} could not be downloaded ({reason}); run this again to go on."
        ) from None
    check(
        file.as_posix().endswith(f"/{commit}/{name}"),
        f"{address}: got {file} in place of commit {commit}; it was changed meanwhile, try again.",
    )
    return file


def _cached(address: HubAddress, kind: Kind, reason: UnreachableError) -> list[Path]:
    """The files of an earlier download. Raises ValueError where there was none."""
    hub = hub_library()
    for name in filter(None, (address.path, *map(address.file, kind.keys))):
        found = hub.try_to_load_from_cache(address.repository, name, revision=address.revision)
        if isinstance(found, str):
            root = _snapshot(Path(found))
            there = [file.relative_to(root).as_posix() for file in root.rglob("*")]
            return [root / name for name in kind.choose(address, there)]
    raise ValueError(
        f"{address}: the Hub cannot be reached ({reason}), and the cache "
        f"{hub.constants.HF_HUB_CACHE} does not hold it; connect, or name a folder."
    )


def _snapshot(file: Path) -> Path:
    """The folder of a commit in the cache, which a file is below: snapshots/COMMIT."""
    return next(folder for folder in file.parents if folder.parent.name == "snapshots")


def _check_size(address: HubAddress, file: Path, expected: int | None) -> None:
    size = file.stat().st_size
    check(
        expected in (None, size),
        f"{address}: {file} has {size} bytes, expected {expected} as the Hub says; delete it and "
        f"{file.resolve()}, and run this again.",
    )


def _check_inside(address: HubAddress, file: Path) -> None:
    """Raises ValueError for a file of the cache that is a link to somewhere else."""
    cache = Path(hub_library().constants.HF_HUB_CACHE).resolve()
    check(
        file.resolve().is_relative_to(cache),
        f"{address}: {file} leads to {file.resolve()}, outside of the cache; delete it and run "
        "this again.",
    )
