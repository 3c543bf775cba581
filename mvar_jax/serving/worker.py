"""The queue of jobs and the one thread that draws them."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from absl import logging

from mvar_jax.checks import check, describe_os_error, first_line, is_out_of_device_memory
from mvar_jax.serving.drawing import Event
from mvar_jax.serving.job import Job

LONGEST_SENTENCE = 600  # characters; what was sent wrongly may be much longer


@dataclass(frozen=True, eq=False)
class Ticket:
    """A job in the queue, whose it is, and who hears of it."""

    job: Job
    visitor: str
    hear: Callable[[Event], None]  # called in the thread that draws


class Worker:
    """Draws jobs one after another; all methods may be called from any thread.

    draw: yields the events of a job; what it raises ends that job with the event "error"
    most_waiting, most_of_one: tickets in all and of one visitor, the drawn one included
    """

    def __init__(
        self, draw: Callable[[Job], Iterator[Event]], *, most_waiting: int, most_of_one: int
    ):
        self._draw = draw
        self._most_waiting = most_waiting
        self._most_of_one = most_of_one
        self._tickets: list[Ticket] = []  # the first is drawn
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="drawing", daemon=True)
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        """Adds a ticket to the queue. Raises ValueError where that is full."""
        with self._changed:
            own = sum(other.visitor == ticket.visitor for other in self._tickets)
            check(
                len(self._tickets) < self._most_waiting,
                f"{len(self._tickets)} requests are waiting, which is the most there may be; try "
                "again in a while.",
            )
            check(
                own < self._most_of_one,
                f"{own} requests of yours are waiting, which is the most there may be; wait for "
                "one of them, or stop it.",
            )
            self._tickets.append(ticket)
            self._changed.notify()

    def stop(self, ticket: Ticket) -> None:
        """Takes a ticket out of the queue; one that is drawn stops after its scale."""
        with self._changed:
            if ticket in self._tickets:
                self._tickets.remove(ticket)

    def ahead_of(self, ticket: Ticket) -> int:
        """How many tickets are served before this one."""
        with self._changed:
            return self._tickets.index(ticket) if ticket in self._tickets else 0

    @property
    def waiting(self) -> int:
        """How many tickets there are, the one that is drawn included."""
        with self._changed:
            return len(self._tickets)

    def close(self) -> None:
        """Drops all tickets and ends the thread; one that is drawn stops after its scale."""
        with self._changed:
            self._closed = True
            self._tickets.clear()
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tickets or self._closed)
                if self._closed:
                    return
                ticket = self._tickets[0]
            self._serve_one(ticket)
            self.stop(ticket)

    def _serve_one(self, ticket: Ticket) -> None:
        try:
            for event in self._draw(ticket.job):
                if not self._wanted(ticket):
                    return
                ticket.hear(event)
        except Exception as error:
            ticket.hear(Event("error", {"sentence": sentence(error)}))

    def _wanted(self, ticket: Ticket) -> bool:
        with self._changed:
            return ticket in self._tickets


def sentence(error: Exception) -> str:
    """What an error says to a visitor, without a traceback; one that is a bug is logged with it."""
    if isinstance(error, OSError):
        text = describe_os_error(error)
    elif isinstance(error, ValueError):
        text = str(error)
    elif isinstance(error, MemoryError) or is_out_of_device_memory(error):
        text = "The machine has not enough memory for this; ask for fewer or smaller images."
    else:
        logging.error("a request failed", exc_info=error)
        kind = type(error).__name__
        text = f"The server failed ({kind}: {first_line(error)}); its terminal says more."
    return text if len(text) <= LONGEST_SENTENCE else f"{text[:LONGEST_SENTENCE]}..."
