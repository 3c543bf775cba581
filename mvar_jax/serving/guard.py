"""Requests that no visitor of the page sends are refused."""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The page loads nothing from elsewhere, and no other page may show it in a frame.
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Guard:
    """Checks the Host and Origin of every request before the application sees it.

    A page elsewhere may have its own name point to this machine (DNS rebinding), and so read what
    is served here: its name then stands in Host. An address there is nobody's name, so those are
    let through, as are "localhost", this machine's own name and `names`. An Origin other than the
    Host is that of a page elsewhere.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...] = ()):
        self._app = app
        self._names = {"localhost", socket.gethostname().lower(), *map(str.lower, names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request, or refuses it with status 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        problem = self._problem(Headers(scope=scope))
        app = JSONResponse({"error": problem}, 403) if problem else self._app
        await app(scope, receive, send_with_headers)

    def _problem(self, headers: Headers) -> str:
        """Why a request is refused, in one sentence; empty if it is not."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._known(host):
            return (
                f"got a request for the host {host[:100]!r}, expected the address of this machine; "
                "open the page by that, or allow the name by --name."
            )
        if origin is not None and not _is_of(origin, host):
            return f"got a request of the page {origin[:100]!r}, expected one of this page."
        return ""

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)


def _is_of(origin: str, host: str) -> bool:
    """Whether an Origin is that of the pages of a host."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
