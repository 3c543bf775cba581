"""The server: a socket, the thread that draws, and the application between them."""

import contextlib
import errno
import ipaddress
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from starlette.applications import Starlette

from mvar_jax.checks import check, first_line
from mvar_jax.serving.application import application
from mvar_jax.serving.drawing import Drawer
from mvar_jax.serving.limits import MOST_CONNECTIONS, MOST_OF_ONE, MOST_WAITING
from mvar_jax.serving.offer import Offer
from mvar_jax.serving.worker import Worker


@contextlib.contextmanager
def served(drawer: Drawer, offers: list[Offer], names: tuple[str, ...] = ()) -> Iterator[Starlette]:
    """The application with a thread that draws, which ends with the block."""
    worker = Worker(drawer, most_waiting=MOST_WAITING, most_of_one=MOST_OF_ONE)
    try:
        yield application(offers, worker, names)
    finally:
        worker.close()
        drawer.models.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes one that is free. Raises ValueError where none can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            problem = f"port: {port} of {host} is in use, expected a free one"
            raise ValueError(f"{problem}; name another, or 0 for any.") from None
        raise ValueError(
            f"host: cannot listen on {host}, port {port} ({error.strerror or first_line(error)}), "
            "expected an address of this machine; name 127.0.0.1, and a port above 1023."
        ) from None


def check_name(name: str) -> None:
    """Raises ValueError for what is no name of a host, as an address of a page or a port."""
    check(
        re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", name) is not None,
        f"name: got {name!r}, expected the name of a host alone, as models.example.org.",
    )


def address(listening: socket.socket) -> str:
    """Where a browser finds the page, and who else does, in words."""
    host, port = listening.getsockname()[:2]
    found = ipaddress.ip_address(host)
    name = ("[::1]" if found.version == 6 else "127.0.0.1") if found.is_unspecified else host
    if found.version == 6 and not found.is_unspecified:
        name = f"[{host}]"
    where = f"Open http://{name}:{port}/ in a browser; Ctrl-C ends the server."
    if found.is_loopback:
        return where
    return (
        f"{where}\nIt listens on {host}: anyone who reaches this machine over the network can use "
        "it and see what it offers, there is no password and no encryption."
    )


def run(application: Starlette, listening: socket.socket) -> None:
    """Serves until the process ends.

    Outside the main thread uvicorn leaves signals to the program. It would wait for whoever
    watches, and for the compiler.
    """
    config = uvicorn.Config(
        application, log_level="warning", limit_concurrency=MOST_CONNECTIONS, lifespan="off"
    )
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(uvicorn.Server(config).run, sockets=[listening]).result()
