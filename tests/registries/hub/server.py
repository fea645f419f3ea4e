"""As much of the Hugging Face Hub as a registry needs: files at revisions, and conditional commits."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_writer"


@dataclass
class Hub:
    """The state of the Hub: one repository.

    lfs, ignored: the keys, by how they begin, that go by LFS, or that the .gitignore names. private: whether
    reading needs the token. answers: what to say in place of the truth, by the end of the path, once each.
    losing: how many answers to commits get lost on the way, the commits made.
    """

    repo: str = "models/studio/concepts"
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    pointers: set[bytes] = field(default_factory=set)
    lfs: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    private: bool = False
    losing: int = 0
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]]

    def add(self, branch: str, files: dict[str, bytes], message: str) -> str:
        told = f"{branch}{len(self.commits)}{message}{sorted(files)}"
        oid = hashlib.sha1(told.encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        self.messages.append(message)
        return oid


@contextmanager
def serve(**changes: Any) -> Iterator[Hub]:
    """A Hub with an empty repository that has a branch `main`."""
    hub = Hub(**changes)
    hub.add("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
    server = _Server(("127.0.0.1", 0), type("OneHub", (_Handler,), {"hub": hub}))
    hub.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._handle(b"")

    def do_HEAD(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        self._handle(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def do_PUT(self) -> None:
        self._handle(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _handle(self, body: bytes) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        given = self.headers.get("Authorization")
        hub.asked.append((self.command, f"{self.headers['Host'].partition(':')[0]}{path}", given))
        for end in list(hub.answers):
            if end in path:
                self._say(*hub.answers[end], {"Content-Type": "application/json"})
                return
        kind, owner, name = hub.repo.split("/")
        plain = f"/{owner}/{name}" if kind == "models" else f"/{kind}/{owner}/{name}"
        if path.startswith("/lfs/"):
            self._large(path, body)
            return
        writing = self.command == "POST"
        if (writing or hub.private) and given != f"Bearer {TOKEN}":
            self._say(401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif path.startswith(f"/api/{hub.repo}/revision/"):
            self._info(self._revision(path.rpartition("/revision/")[2]))
        elif path.startswith(f"/api/{hub.repo}/preupload/"):
            self._json({"files": [self._mode(file) for file in json.loads(body)["files"]]})
        elif path.startswith(f"/api/{hub.repo}/commit/"):
            self._commit(unquote(path.rpartition("/commit/")[2]), body)
        elif path == f"{plain}.git/info/lfs/objects/batch":
            self._batch(json.loads(body)["objects"])
        elif path.startswith(f"{plain}/resolve/"):
            revision, _, key = path.removeprefix(f"{plain}/resolve/").partition("/")
            self._file(self._revision(revision), key)
        else:
            self._say(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _revision(self, quoted: str) -> str | None:
        name = unquote(quoted)
        return self.hub.branches.get(name, name if name in self.hub.commits else None)

    def _info(self, oid: str | None) -> None:
        if oid is None:
            self._say(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            self._json({"_id": "1", "id": "studio/concepts", "sha": oid})

    def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
        key = file["path"]
        mode = "lfs" if key.startswith(self.hub.lfs) and self.hub.lfs else "regular"
        ignored = bool(self.hub.ignored) and key.startswith(self.hub.ignored)
        return {"path": key, "uploadMode": mode, "shouldIgnore": ignored}

    def _commit(self, branch: str, body: bytes) -> None:
        hub = self.hub
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        with hub.lock:
            head = hub.branches.get(branch)
            if head is None:
                self._say(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return
            if header.get("parentCommit", head) != head:
                self._say(412, b'{"error":"A commit has happened since. Please refresh and try again."}')
                return
            files = dict(hub.commits[head])
            for line in lines[1:]:
                value = line["value"]
                if line["key"] == "lfsFile":
                    files[value["path"]] = hub.large[value["oid"]]
                    hub.pointers.add(hub.large[value["oid"]])
                else:
                    assert line["key"] == "file"
                    files[value["path"]] = base64.b64decode(value["content"])
            oid = hub.add(branch, files, header["summary"])
            lost, hub.losing = hub.losing > 0, max(hub.losing - 1, 0)
        if lost:
            self.close_connection = True
        else:
            self._json(
                {
                    "success": True,
                    "commitOid": oid,
                    "commitUrl": f"{hub.endpoint}/{hub.repo.removeprefix('models/')}/commit/{oid}",
                }
            )

    def _batch(self, objects: list[dict[str, Any]]) -> None:
        told = []
        for each in objects:
            entry = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.large:
                entry["actions"] = {
                    "upload": {"href": f"{self.hub.endpoint}/lfs/{each['oid']}", "header": {}}
                }
            told.append(entry)
        self._json({"transfer": "basic", "objects": told})

    def _large(self, path: str, body: bytes) -> None:
        oid = path.removeprefix("/lfs/")
        if self.command == "PUT":
            assert hashlib.sha256(body).hexdigest() == oid
            self.hub.large[oid] = body
            self._say(200, b"")
        else:
            self._say(200, self.hub.large[oid])

    def _file(self, oid: str | None, key: str) -> None:
        data = self.hub.commits[oid].get(key) if oid is not None else None
        if oid is None or data is None:
            self._say(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
            return
        etag = f'"{hashlib.sha1(data).hexdigest()}"'
        if self.headers.get("If-None-Match") == etag:
            self._say(304, b"", {"ETag": etag})
        elif data in self.hub.pointers:
            # The large files are on another host.
            location = f"http://localhost:{self.hub.port}/lfs/{hashlib.sha256(data).hexdigest()}"
            self._say(302, b"", {"Location": location, "X-Linked-ETag": etag})
        else:
            self._say(200, data, {"ETag": etag, "X-Repo-Commit": oid})

    def _json(self, what: object) -> None:
        self._say(200, json.dumps(what).encode(), {"Content-Type": "application/json"})

    def _say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and status != 304:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
