"""A stand-in for the Hugging Face Hub on this machine: what `huggingface_hub` asks for, no more.

Written from the library's own requests; large files go its way of LFS, others inside the commit.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_tests"


def sha(*parts):
    return hashlib.sha1(b"\0".join(parts)).hexdigest()


@dataclass
class Repository:
    """Commits of files; `sizes` and `listed` are lies about them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # oldest first
    private: bool = False
    gated: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    commit: str | None = None

    def add(self, files):
        """A commit of these files on top of those before; returns its hash."""
        files = {**self.files("main"), **files}
        name = sha(*(name.encode() + data for name, data in files.items()))
        self.commits[name] = files
        return name

    def resolve(self, revision):
        return list(self.commits)[-1] if revision == "main" and self.commits else revision

    def files(self, revision):
        return self.commits.get(self.resolve(revision), {})


class StandIn:
    """The server's contents, and what it was asked for."""

    def __init__(self):
        self.repositories, self.stored, self.asked = {}, {}, []
        self.status = None  # with which all is answered, if it is set

    def share(self, name, folder, **about):
        """A repository with the files of a folder; returns it."""
        found = [path for path in Path(folder).rglob("*") if path.is_file()]
        repository = self.repositories[name] = Repository(**about)
        repository.add({file.relative_to(folder).as_posix(): file.read_bytes() for file in found})
        return repository

    def files(self, method="GET"):
        """The files that were downloaded, or looked at, in order."""
        asked = [path for way, path in self.asked if way == method and "/resolve/" in path]
        return [path.split("/", 5)[5] for path in asked]

    @contextmanager
    def running(self):
        """Serves, and gives its address."""
        handler = type("Bound", (Handler,), {"hub": self})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    hub: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self._ask()
        info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if self.hub.status is not None:
            self._send(self.hub.status)
        elif info:
            self._info(info[1], info[2])
        elif file:
            self._file(*file.groups())
        else:
            self._send(404)

    def do_POST(self):
        path, body = self._ask(), self._body()
        routes = {
            r"/api/repos/create": self._create,
            r"/api/validate-yaml": lambda _: self._json({}),
            r"/api/models/([^/]+/[^/]+)/preupload/main": self._preupload,
            r"/api/models/([^/]+/[^/]+)/commit/main": self._commit,
            r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch": self._batch,
        }
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._send(401, "", "Invalid username or password.")
            return
        for route, answer in routes.items():
            found = re.fullmatch(route, path)
            if found:
                answer(body, *found.groups())
                return
        self._send(404)

    def do_PUT(self):
        path, body = self._ask(), self._body()
        self.hub.stored[path.rpartition("/")[2]] = body
        self._send(200)

    def _ask(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        return path

    def _body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _repository(self, name):
        """The repository if it is there for who asks; otherwise answers."""
        found = self.hub.repositories.get(name)
        may = self.headers.get("authorization") == f"Bearer {TOKEN}"
        if found is None or (found.private and not may):
            self._send(404 if may else 401, "RepoNotFound", "Repository not found")
            return None
        return found

    def _info(self, name, revision):
        repository = self._repository(name)
        if repository is None:
            return
        asked = revision or "main"
        commit, files = repository.resolve(asked), repository.files(asked)
        if revision and not files:
            self._send(404, "RevisionNotFound", "Invalid rev id")
            return
        sizes = {file: len(data) for file, data in files.items()} | repository.sizes
        names = (*files, *repository.listed)
        siblings = [{"rfilename": file, "size": sizes.get(file, 1)} for file in names]
        about = {"id": name, "sha": repository.commit or commit, "private": repository.private}
        self._json({**about, "siblings": siblings})

    def _file(self, name, revision, file):
        repository = self._repository(name)
        if repository is None:
            return
        if repository.gated:
            self._send(403, "GatedRepo", "Access is restricted")
            return
        data = repository.files(revision).get(file)
        if data is None:
            self._send(404, "EntryNotFound", "Entry not found")
            return
        commit = repository.commit or repository.resolve(revision)
        self._send(200, data=data, headers={"X-Repo-Commit": commit, "ETag": f'"{sha(data)}"'})

    def _create(self, body):
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        private = asked.get("visibility", "public") == "private" or asked.get("private", False)
        self.hub.repositories.setdefault(name, Repository(private=private))
        self._json({"url": f"http://{self.headers['host']}/{name}"})

    def _preupload(self, body, _):
        def mode(path):
            return "lfs" if path.endswith(".safetensors") else "regular"

        files = [file["path"] for file in json.loads(body)["files"]]
        answers = [
            {"path": path, "uploadMode": mode(path), "shouldIgnore": False} for path in files
        ]
        self._json({"files": answers})

    def _batch(self, body, _):
        def answer(item):
            href = f"http://{self.headers['host']}/lfs/{item['oid']}"
            return {**item, "actions": {"upload": {"href": href}}}

        objects = [answer(item) for item in json.loads(body)["objects"]]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, body, name):
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
        commit = self.hub.repositories[name].add(files)
        url = f"http://{self.headers['host']}/{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url})

    def _json(self, value):
        headers = {"Content-Type": "application/json"}
        self._send(200, data=json.dumps(value).encode(), headers=headers)

    def _send(self, status, code="", message="", *, data=b"", headers=None):
        errors = {"X-Error-Code": code, "X-Error-Message": message} if message else {}
        self.send_response(status)
        for name, value in {**errors, **(headers or {}), "Content-Length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
