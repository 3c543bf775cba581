"""The web application: what it serves, what it refuses, and what it bounds."""

import json
import re
import socket
import threading

import numpy as np
import pytest
from starlette.testclient import TestClient

from mvar_jax.serving import limits, server
from mvar_jax.serving.application import PAGE, application
from mvar_jax.serving.drawing import Event
from mvar_jax.serving.job import Asked, Job
from mvar_jax.serving.worker import LONGEST_SENTENCE, Ticket, Worker
from tests.serving.site import OFFERS, PATTERNS, picture_of, until


def draw_nothing(job):
    if job.asked.subject == "bug":
        raise KeyError("bug")
    if job.asked.subject == "large":
        raise MemoryError
    if job.asked.subject == "long":
        raise ValueError("x" * 10_000)
    yield Event("done")


@pytest.fixture
def client():
    worker = Worker(draw_nothing, most_waiting=4, most_of_one=2)
    app = application(OFFERS, worker, names=("Models.example.org",))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client
    worker.close()


def test_the_page_is_there_and_asks_nobody_else(client):
    page = client.get("/")
    assert page.status_code == 200 and "<form" in page.text
    for name in re.findall(r'(?:href|src)="([\w.]+)"', page.text):
        assert client.get(f"/{name}").status_code == 200, name
    assert not [file for file in PAGE.iterdir() if re.search(r"https?://", file.read_text())]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/../setup.py").status_code == client.get("/%2e%2e/api.py").status_code == 404


def test_names_of_the_script_are_those_of_the_page():
    page = (PAGE / "index.html").read_text()
    script = "".join(file.read_text() for file in PAGE.glob("*.js"))
    named = {*re.findall(r'byId\("([\w-]+)"\)', script)}
    assert named and named <= {*re.findall(r' id="([\w-]+)"', page)}


def test_models_are_described(client):
    answer = client.get("/api/models").json()
    assert [model["workdir"] for model in answer["models"]] == [*PATTERNS]
    assert answer["models"][0]["class_names"] == ["cat", "dog", "owl"]
    assert answer["models"][0]["sampling"]["top_p"] == 0.9
    assert {"hack", "snapkv+int8", "full+int8"} <= {*answer["policies"]}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "request: got what is no JSON ("),
        (b"[]", "request: got JSON that is no object"),
        (b'{"colour": 1}', "request: unknown key 'colour'"),
        (b'{"seed": -1}', "seed: got -1"),
        (b'{"seed": "1"}', "request.seed: got '1', expected a value of type int"),
        (b'{"model": 3}', "model: got 3, expected a whole number from 0 to 2"),
        (b'{"columns": 17}', "columns: got 17"),
        (b'{"policies": []}', "policies: got 0, expected one, or two"),
        (b'{"policies": [{"ratio": 0.5}]}', "policy: got a ratio or a budget without a policy"),
        (b'{"policies": [{"name": "hack", "ratio": 2}]}', "ratio: got 2.0"),
        (b'{"settings": {"labels": 1}}', "settings: got labels, expected some of guidance"),
        (b'{"settings": {"temperature": NaN}}', "temperature"),
        (b'{"settings": {"guidance": -1}}', "guidance: got -1"),
        (b'{"settings": {"guidance": 1%s}}' % (b"0" * 400), "guidance: got a whole number that no"),
        (b'{"edit": {"mask": ""}}', "image: got none to edit"),
        (b'{"edit": {"image": "?"}}', "image: cannot be read (it is not in base64)"),
        (b'{"edit": {"image": "AAAA"}}', "image: cannot be read (no image in one of the formats"),
        (b'{"edit": {"image": "AAAA", "strength": 2}}', "strength: got 2.0"),
        (b'{"edit": {"image": "AAAA"}, "columns": 2}', "columns: got 2 images of an edit"),
        (json.dumps({"subject": "x" * 4001}).encode(), "subject: got 4001 characters"),
    ],
)
def test_bad_input_is_one_sentence(client, body, sentence):
    answer = client.post("/api/draw", content=body)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert len(answer.json()["error"]) <= LONGEST_SENTENCE + 3


def test_pictures_and_requests_are_bounded(client):
    huge = picture_of(np.zeros((1, limits.MOST_GIVEN_PIXELS + 1, 3), np.uint8))
    answer = client.post("/api/draw", json={"edit": {"image": huge}})
    assert answer.status_code == 400 and "expected at most 4194304 in all" in answer.json()["error"]
    answer = client.post("/api/draw", content=bytes(limits.MOST_BODY_BYTES + 1))
    assert answer.status_code == 413 and "more than 24 MiB" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({"host": "localhost:8000"}, True),
        ({"host": "[::1]:8000"}, True),
        ({"host": "192.168.1.7"}, True),
        ({"host": "evil.example:8000"}, False),
        ({"host": "models.example.org", "origin": "https://models.example.org"}, True),
        ({"host": "models.example.org", "origin": "https://evil.example"}, False),
        ({"host": "127.0.0.1.evil.example"}, False),
        ({"host": ""}, False),
        ({"host": "[::1"}, False),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}, True),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:9000"}, False),
        ({"host": "127.0.0.1:8000", "origin": "https://evil.example"}, False),
        ({"host": "127.0.0.1:8000", "origin": "null"}, False),
        ({"host": "127.0.0.1:8000", "origin": "http://[::1"}, False),
    ],
)
def test_only_this_page_of_this_machine_is_served(client, headers, served):
    for answer in (
        client.get("/api/models", headers=headers),
        client.post("/api/draw", json={"subject": "cat"}, headers=headers),
    ):
        assert answer.status_code == (200 if served else 403)
        assert served or answer.json()["error"].startswith("got a request")


@pytest.mark.parametrize(
    ("subject", "sentence"),
    [
        ("bug", "The server failed (KeyError: 'bug'); its terminal says more."),
        ("large", "The machine has not enough memory for this; ask for fewer or smaller images."),
        ("long", "x" * LONGEST_SENTENCE + "..."),
    ],
)
def test_whatever_goes_wrong_is_a_sentence_and_the_next_one_is_served(client, subject, sentence):
    text = client.post("/api/draw", json={"subject": subject}).text
    assert text.endswith(f"event: error\ndata: {json.dumps({'sentence': sentence})}\n\n")
    assert "event: done" in client.post("/api/draw", json={"subject": "cat"}).text


def test_the_queue_is_bounded_for_all_and_for_each():
    heard, gate = [], threading.Event()

    def draw(job):
        assert gate.wait(60)
        yield Event(job.asked.subject)

    def ticket(name):
        return Ticket(Job(Asked(subject=name), OFFERS[0]), name[0], heard.append)

    worker = Worker(draw, most_waiting=3, most_of_one=2)
    tickets = [ticket(name) for name in ("a1", "a2", "a3")]
    for own in tickets[:2]:
        worker.submit(own)
    with pytest.raises(ValueError, match="2 requests of yours are waiting"):
        worker.submit(tickets[2])
    worker.submit(ticket("b1"))
    with pytest.raises(ValueError, match="3 requests are waiting, which is the most"):
        worker.submit(ticket("c1"))
    assert worker.ahead_of(tickets[1]) == 1 and worker.waiting == 3
    worker.stop(tickets[1])
    worker.submit(ticket("c2"))
    gate.set()
    until(lambda: len(heard) == 3)
    assert [event.kind for event in heard] == ["a1", "b1", "c2"]
    worker.close()


def test_a_port_in_use_and_an_address_elsewhere_are_one_sentence():
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port: {port} of 127.0.0.1 is in use, expected"):
            server.listen("127.0.0.1", port)
    for host in ("203.0.113.7", "nowhere.invalid"):
        with pytest.raises(ValueError, match=f"host: cannot listen on {host}, port 0"):
            server.listen(host, 0)


@pytest.mark.parametrize("name", ["https://models.example.org", "models.example.org:8000", "", "*"])
def test_a_name_is_that_of_a_host(name):
    server.check_name("models.example.org")
    with pytest.raises(ValueError, match=r"name: got .* expected the name of a host alone"):
        server.check_name(name)


def test_an_open_address_says_what_that_means():
    with server.listen("127.0.0.1", 0) as own, server.listen("0.0.0.0", 0) as all_of_them:
        assert "\n" not in server.address(own)
        assert "http://127.0.0.1:" in server.address(all_of_them)
        assert "anyone who reaches this machine" in server.address(all_of_them)
    if socket.has_ipv6:
        with server.listen("::1", 0) as six:
            assert "http://[::1]:" in server.address(six)
