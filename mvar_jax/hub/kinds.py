"""What may be downloaded, by what it is for; nothing else of a repository ever is."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from mvar_jax.checks import check
from mvar_jax.hub.address import HubAddress
from mvar_jax.workdir import SHARED_FILES

SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)
ALL_WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Kind:
    """Which files a thing consists of, by names relative to its address.

    One of `keys` must be there. It is downloaded last, so that where the cache has it, the cache
    has the others too. `shards` are further files of safetensors beside it. `single` are the
    suffixes of a file that may be named itself, by the relative name "".
    """

    what: str
    keys: tuple[str, ...]
    others: tuple[str, ...] = ()
    shards: bool = False
    single: tuple[str, ...] = ()

    def choose(self, address: HubAddress, names: Collection[str]) -> list[str]:
        """Those files of a repository that belong to it, in the order to download them.

        Raises ValueError where they are not there.
        """
        found = ((name, address.relative(name)) for name in names)
        below = {name: rest for name, rest in found if rest is not None}
        chosen = [name for name, rest in below.items() if self._takes(name, rest)]
        shown = ", ".join(sorted(names)[:8]) or "nothing"
        check(
            any(below[name] in ("", *self.keys) for name in chosen),
            f"{address}: expected {self.what}, but the repository holds {shown}.",
        )
        return sorted(chosen, key=lambda name: below[name] in self.keys)

    def _takes(self, name: str, rest: str) -> bool:
        if rest == "":
            return name.endswith(self.single)
        return rest in (*self.keys, *self.others) or (self.shards and bool(SHARD.fullmatch(rest)))


SHARED = Kind(
    "a model that python -m mvar_jax.share uploaded",
    keys=("config.json",),
    others=tuple(name for name in SHARED_FILES if name != "config.json"),
)
# The reader of PyTorch's files (`convert.pickled`) executes nothing of what they hold.
WEIGHT_FILES = Kind(
    f"{ALL_WEIGHTS} or shards with their index, or the name of a file of weights behind it",
    keys=(INDEX, ALL_WEIGHTS),
    shards=True,
    single=(".safetensors", ".pth", ".pt", ".bin"),
)
TEXT_ENCODER = Kind(
    "a text encoder with its config.json, as google/flan-t5-xl is",
    keys=("config.json",),
    others=(INDEX, ALL_WEIGHTS, "tokenizer.json", "spiece.model"),
    shards=True,
)
