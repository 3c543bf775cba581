"""Global batches, of which every process reads the rows that its devices hold."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
from etils import epath

from mvar_jax.checks import check
from mvar_jax.config import DataConfig
from mvar_jax.data.pipeline import batch_rows, batched
from mvar_jax.mesh.sharding import BatchLayout

FILE = "batches.json"

Batch = dict[str, jax.Array]


class GlobalBatches:
    """Batches numbered from 0, and an iterator over them whose place is the next one's number.

    `read(first)` gives this process's part of all batches from number `first` on, and `place`
    makes a global batch of a part. A place is the same on any number of processes and devices, so
    that a run goes on elsewhere where it stopped here.
    """

    def __init__(self, read: Callable[[int], grain.IterDataset], place: Callable[..., Batch]):
        self._read, self._place = read, place

    def __iter__(self) -> "GlobalIterator":
        return GlobalIterator(self._read, self._place)


class GlobalIterator(Iterator[Batch]):
    """Iterates over `GlobalBatches`; Orbax saves its place in a checkpoint, and loads it."""

    def __init__(self, read: Callable[[int], grain.IterDataset], place: Callable[..., Batch]):
        self._read, self._place = read, place
        self._next = 0
        self._parts: grain.DatasetIterator | None = None

    def __next__(self) -> Batch:
        if self._parts is None:
            self._parts = iter(self._read(self._next))
        batch = self._place(next(self._parts))
        self._next += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The place: the number of the next batch."""
        return {"next_batch": self._next}

    def set_state(self, state: Any) -> None:
        """Goes to a place, as `get_state` gives it. Raises ValueError for what is none."""
        number = state.get("next_batch", -1) if isinstance(state, dict) else -1
        check(
            type(number) is int and number >= 0,
            f"data: got the place {state!r}, expected the number of a batch, as "
            "{'next_batch': 0}.",
        )
        self.close()
        self._next = number

    def close(self) -> None:
        """Ends the threads and processes that read."""
        if self._parts is not None:
            self._parts.close()
        self._parts = None

    async def save(self, directory: Any):
        """Writes the place below a directory that Orbax makes; the first process does."""
        return self._write(directory, json.dumps(self.get_state()))

    async def _write(self, directory: Any, text: str) -> None:
        folder = await directory.await_creation()
        if jax.process_index() == 0:
            await asyncio.to_thread((folder / FILE).write_text, text)

    async def load(self, directory: epath.Path):
        """Goes to the place that was saved in a directory."""
        return self._go_to(directory)

    async def _go_to(self, directory: epath.Path) -> None:
        text = await asyncio.to_thread((epath.Path(directory) / FILE).read_text)
        self.set_state(json.loads(text))


class GlobalEvaluation:
    """Batches of records once, in their order; the last one may be smaller, in other rows."""

    def __init__(
        self, records: grain.MapDataset, batch_size: int, data: DataConfig, *, layout: BatchLayout
    ):
        self._records, self._size, self._data, self._layout = records, batch_size, data, layout

    def __iter__(self) -> Iterator[Batch]:
        count = len(self._records)
        whole = count // self._size * self._size
        for start, stop, size in ((0, whole, self._size), (whole, count, count - whole)):
            if start < stop:
                rows = self._layout.rows(size)
                records = batch_rows(self._records[start:stop], size, rows)
                for part in batched(records, len(rows), self._data):
                    yield self._layout.place(part, size)
