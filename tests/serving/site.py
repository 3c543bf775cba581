"""A served page of tiny models with random weights, and visitors to it."""

import base64
import contextlib
import io
import json
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial

import httpx
import numpy as np
import uvicorn
from PIL import Image

from mvar_jax.config import SamplingConfig
from mvar_jax.serving import server
from mvar_jax.serving.command import command
from mvar_jax.serving.drawing import Drawer
from mvar_jax.serving.models import Models
from mvar_jax.serving.offer import Offer
from tests.sampling.kinds import model_of
from tests.sampling.test_text_policies import Encoder, three_prompts

PATTERNS = {"runs/var": "VAR", "runs/mvar": "M-VAR", "runs/texts": "Infinity"}
SETTINGS = {"guidance": 1.0, "top_k": 0, "top_p": 0.9}
REPEATS = partial(command, profile=None, text_encoder=None)


class ByLength(Encoder):
    """Gives one of three texts, by how long the prompt is."""

    def encode(self, prompts):
        return self.prompts.rows(np.array([len(prompt) % 3 for prompt in prompts]))


def offer_of(workdir):
    texts = workdir == "runs/texts"
    return Offer(
        workdir=workdir,
        texts=texts,
        class_names=() if texts else ("cat", "dog", "owl"),
        image_size=(8, 12),
        rotary=texts,
        remembers=workdir != "runs/mvar",
        feather=2.0,
        most_images=16,
        sampling=SamplingConfig(**SETTINGS),
    )


OFFERS = [offer_of(workdir) for workdir in PATTERNS]


def opened(workdir, texts):
    model = model_of(PATTERNS[workdir])
    return replace(model, text_encoder=ByLength(three_prompts())) if texts else model


@dataclass(frozen=True)
class Gated(Drawer):
    """Draws, but every event after the first waits for a permit."""

    permits: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    begun: list = field(default_factory=list)  # seeds of jobs
    left: list = field(default_factory=list)

    def __call__(self, job):
        self.begun.append(job.asked.seed)
        try:
            for event in super().__call__(job):
                yield event
                assert self.permits.acquire(timeout=60)
        finally:
            self.left.append(job.asked.seed)


@contextlib.contextmanager
def running(drawer):
    """The address of a server that draws by `drawer`."""
    listening = server.listen("127.0.0.1", 0)
    with server.served(drawer, OFFERS) as application:
        config = uvicorn.Config(application, log_level="warning", lifespan="off")
        web = uvicorn.Server(config)
        web.config.timeout_graceful_shutdown = 1
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until(lambda: web.started)
        try:
            yield "http://{}:{}".format(*listening.getsockname())
        finally:
            web.should_exit = True
            thread.join(30)


def drawer(most_programs=1000, kind=Drawer):
    return kind(Models(opened, None, most_programs), REPEATS)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)


@contextlib.contextmanager
def asking(address, **asked):
    """The events of a request, as they come: pairs of a kind and values."""
    asked = {"subject": "dog", "settings": SETTINGS, **asked}
    with httpx.stream("POST", f"{address}/api/draw", json=asked, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        yield events(answer)


def events(answer):
    kind = ""
    for line in answer.iter_lines():
        name, _, text = line.partition(": ")
        kind = text if name == "event" else kind
        if name == "data":
            yield kind, json.loads(text)


def all_events(address, **asked):
    with asking(address, **asked) as heard:
        return [event for event in heard if event[0] != "waiting"]


def scales_of(heard, run=0):
    return [values for kind, values in heard if kind == "scale" and values["run"] == run]


def pixels_of(picture):
    with Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))) as image:
        return np.asarray(image)


def picture_of(pixels):
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
