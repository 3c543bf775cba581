"""The web application: the page's files, what there is to draw, and jobs drawn as events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import mvar_jax
from mvar_jax.serving.drawing import Event
from mvar_jax.serving.guard import Guard
from mvar_jax.serving.job import Job
from mvar_jax.serving.limits import BODY_SECONDS, MIB, MOST_BODY_BYTES
from mvar_jax.serving.offer import Offer, describe
from mvar_jax.serving.worker import Ticket, Worker, sentence

PAGE = Path(mvar_jax.__file__).parent / "page"
HEARTBEAT = 1.0  # seconds without news, after which the page is told that it waits
LAST = ("done", "error")  # kinds of events


def application(offers: Sequence[Offer], worker: Worker, names: tuple[str, ...] = ()) -> Starlette:
    """The application that serves the page, and draws by a worker.

    GET /api/models is what there is to draw. POST /api/draw takes the JSON of `Job.parse` and
    answers with server-sent events until "done" or "error"; who goes before is drawn no further.
    `names` are further names of this machine.
    """

    async def models(request: Request) -> Response:
        return JSONResponse(describe(offers))

    async def draw(request: Request) -> Response:
        try:
            body = await asyncio.wait_for(_body(request), BODY_SECONDS)
            job = await run_in_threadpool(Job.parse, body, offers)
        except TimeoutError:
            return _refused(f"the request took over {BODY_SECONDS} s to arrive; try again.", 408)
        except ClientDisconnect:
            return _refused("the request did not arrive whole.", 400)  # which nobody hears
        except OverflowError as error:
            return _refused(str(error), 413)
        except ValueError as error:
            return _refused(sentence(error), 400)
        visitor = request.client.host if request.client else ""
        return StreamingResponse(_events(worker, job, visitor), media_type="text/event-stream")

    return Starlette(
        routes=[
            Route("/api/models", models),
            Route("/api/draw", draw, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(Guard, names=names)],
    )


async def _events(worker: Worker, job: Job, visitor: str) -> AsyncIterator[str]:
    """The events of a job as text, from its place in the queue to its end."""
    news: asyncio.Queue[Event] = asyncio.Queue()
    ticket = Ticket(job, visitor, _to_loop(asyncio.get_running_loop(), news.put_nowait))
    event = Event("waiting", {"ahead": worker.waiting})
    try:
        worker.submit(ticket)
        while event.kind not in LAST:
            yield _encoded(event)
            event = await _next(news) or Event("waiting", {"ahead": worker.ahead_of(ticket)})
    except ValueError as error:  # the queue is full
        event = Event("error", {"sentence": str(error)})
    finally:
        worker.stop(ticket)
    yield _encoded(event)


async def _next(news: asyncio.Queue[Event]) -> Event | None:
    """The next event, None if there is none for a while."""
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(news.get(), HEARTBEAT)
    return None


def _to_loop(
    loop: asyncio.AbstractEventLoop, call: Callable[[Event], None]
) -> Callable[[Event], None]:
    """A function for other threads that calls one in the loop, while that runs."""

    def hear(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended, and its loop with it
            loop.call_soon_threadsafe(call, event)

    return hear


def _encoded(event: Event) -> str:
    return f"event: {event.kind}\ndata: {json.dumps(event.values)}\n\n"


async def _body(request: Request) -> bytes:
    """The body of a request. Raises OverflowError, in one sentence, as soon as it is too large."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            raise OverflowError(
                f"the request has more than {MOST_BODY_BYTES // MIB} MiB; give a smaller image."
            )
    return bytes(body)


def _refused(problem: str, status: int) -> Response:
    return JSONResponse({"error": problem}, status)
