"""The name of a model on the Hugging Face Hub."""

import re
from dataclasses import dataclass

from mvar_jax.checks import check, check_given
from mvar_jax.files import HUB

NAME = r"[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?"
REPOSITORY = re.compile(f"{NAME}/{NAME}", re.ASCII)
ADDRESS = re.compile(rf"{HUB}({NAME}/{NAME})(?:@({NAME}))?(?:/(.*))?", re.ASCII)
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class HubAddress:
    """Where a model is: its repository, a revision, and a file or folder there ("" for all)."""

    repository: str  # OWNER/NAME
    revision: str = "main"  # a branch, a tag or a commit
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> "HubAddress":
        """From `hf://OWNER/NAME[@REVISION][/FILE]`. Raises ValueError for anything else."""
        expected = f"expected {HUB}OWNER/NAME, {HUB}OWNER/NAME@REVISION or either with /FILE."
        found = check_given(ADDRESS.fullmatch(text), f"got {text!r}, {expected}")
        repository, revision, path = found.groups()
        path = (path or "").rstrip("/")
        check(path == "" or is_plain(path), f"got {text!r} with the path {path!r}, {expected}")
        check_repository(repository)
        return cls(repository, revision or cls.revision, path)

    def __str__(self) -> str:
        revision = "" if self.revision == HubAddress.revision else f"@{self.revision}"
        return f"{HUB}{self.repository}{revision}{self.path and '/'}{self.path}"

    def relative(self, file: str) -> str | None:
        """The name of a file below `path`, "" for `path` itself, None for one elsewhere."""
        if file == self.path:
            return ""
        folder = f"{self.path}/" if self.path else ""
        return file.removeprefix(folder) if file.startswith(folder) else None

    def file(self, relative: str) -> str:
        """The name in the repository that `relative` was made of."""
        return f"{self.path}/{relative}".strip("/")


def check_repository(name: str) -> None:
    """Raises ValueError for what is no OWNER/NAME of the Hub."""
    check(
        bool(REPOSITORY.fullmatch(name)) and "--" not in name and ".." not in name,
        f"got {name!r} for a model of the Hub, expected OWNER/NAME, of letters, digits and single "
        "-, _ and . between them.",
    )


def is_plain(file: str) -> bool:
    """Whether a file's name stays inside its repository: relative, with no "..", no backslash."""
    parts = file.split("/")
    return file.isprintable() and "\\" not in file and not {"", ".", ".."} & set(parts)
