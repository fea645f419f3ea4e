"""A small OCI registry for what a real one does not show: tokens, redirects, pages, lies, faults."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "author", "s3cret"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass
class Oci:
    """The state of the registry.

    guard: "", "basic" or "bearer". realm: where tokens are, if not here. anonymous: whether anybody gets a
    token for reading. elsewhere: whether blobs are on another host. page: entries of a list at a time.
    catalogue: whether `_catalog` is there. spoil: what an answer's status, headers and body become, by a part
    of the path. seen: method, host, path with query, and Authorization of every request.
    """

    guard: str = ""
    realm: str = ""
    anonymous: bool = False
    elsewhere: bool = False
    page: int = 1000
    catalogue: bool = True
    spoil: dict[str, Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]] = field(
        default_factory=dict
    )
    before_put: Callable[[str], None] = lambda path: None
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    seen: list[tuple[str, str, str, str | None]] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    port: int = 0

    @property
    def url(self) -> str:
        return f"oci://127.0.0.1:{self.port}/studio"

    def tags(self, repository: str) -> list[str]:
        return sorted(
            reference for where, reference in self.manifests if where == repository and ":" not in reference
        )


@contextmanager
def serve(**changes: Any) -> Iterator[Oci]:
    oci = Oci(**changes)
    server = _Server(("127.0.0.1", 0), type("OneRegistry", (_Handler,), {"oci": oci}))
    oci.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield oci
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    oci: Oci
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(length := int(self.headers.get("Content-Length", "0")))
        if len(body) < length:
            self.close_connection = True
            return
        oci, parts = self.oci, urlsplit(self.path)
        given = self.headers.get("Authorization")
        oci.seen.append((self.command, self.headers["Host"].partition(":")[0], self.path, given))
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/token":
            answer = self._token(parts.query, given)
        elif parts.path.startswith("/elsewhere/"):
            answer = self._bytes(oci.blobs.get(parts.path.removeprefix("/elsewhere/")))
        elif not self._allowed(parts.path, given):
            answer = (401, {"WWW-Authenticate": self._challenge()}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        else:
            answer = self._route(parts.path.removeprefix("/v2/"), query, body)
        for part, change in list(oci.spoil.items()):
            if part in self.path:
                answer = change(*answer)
        status, headers, data = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        if headers.get("Content-Length", str(len(data))) != str(len(data)):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _challenge(self) -> str:
        if self.oci.guard == "basic":
            return 'Basic realm="here"'
        realm = self.oci.realm or f"http://localhost:{self.oci.port}/token"
        return f'Bearer realm="{realm}",service="tests, and \\"more\\"",scope="registry:x:pull"'

    def _allowed(self, path: str, given: str | None) -> bool:
        if not self.oci.guard:
            return True
        if self.oci.guard == "basic":
            return given == BASIC
        scope = self.oci.tokens.get((given or "").removeprefix("Bearer "), "")
        repository = path.removeprefix("/v2/").partition("/manifests")[0].partition("/blobs")[0]
        repository = repository.partition("/tags")[0]
        needed = "push" if self.command in ("POST", "PUT") else "pull"
        return needed in scope and (repository == "_catalog" or f"repository:{repository}:" in scope)

    def _token(self, query: str, given: str | None) -> tuple[int, dict[str, str], bytes]:
        scope = " ".join(parse_qs(query)["scope"])
        if given != BASIC and not (self.oci.anonymous and given is None and "push" not in scope):
            return 401, {}, b"{}"
        token = f"token-{len(self.oci.tokens)}"
        self.oci.tokens[token] = scope
        return 200, {}, json.dumps({"token": token, "expires_in": 300}).encode()

    def _route(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        oci = self.oci
        if path == "_catalog":
            known = sorted({repository for repository, _ in oci.manifests})
            return self._page(path, "repositories", known, query) if oci.catalogue else (404, {}, b"{}")
        if path.endswith("/tags/list"):
            tags = oci.tags(path.removesuffix("/tags/list"))
            return self._page(path, "tags", tags, query) if tags else (404, {}, b"{}")
        if path.endswith("/blobs/uploads/"):
            return 202, {"Location": f"/v2/{path}1?state=a%2Bb"}, b""
        above, _, reference = path.rpartition("/")
        repository, _, kind = above.rpartition("/")
        if kind == "uploads":
            if f"sha256:{hashlib.sha256(body).hexdigest()}" != query["digest"]:
                return 400, {}, b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}'
            oci.blobs[query["digest"]] = body
            return 201, {}, b""
        if kind == "blobs":
            if oci.elsewhere and self.command == "GET":
                return 307, {"Location": f"http://localhost:{oci.port}/elsewhere/{reference}?sig=x"}, b""
            return self._bytes(oci.blobs.get(reference))
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if self.command == "PUT":
            oci.before_put(path)
            stored = (self.headers["Content-Type"], body)
            oci.manifests[repository, reference] = oci.manifests[repository, digest] = stored
            return 201, {"Docker-Content-Digest": digest}, b""
        media_type, data = oci.manifests.get((repository, reference), ("", None))
        if data is None:
            return 404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
        return 200, {"Content-Type": media_type}, data

    def _bytes(self, data: bytes | None) -> tuple[int, dict[str, str], bytes]:
        return (404, {}, b"{}") if data is None else (200, {}, data)

    def _page(
        self, path: str, key: str, entries: list[str], query: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        left = [entry for entry in entries if entry > query.get("last", "")]
        shown = left[: self.oci.page]
        more = (
            {"Link": f'</v2/{path}?n={self.oci.page}&last={shown[-1]}>; rel="next"'} if left != shown else {}
        )
        return 200, more, json.dumps({key: shown}).encode()

    def log_message(self, *_: object) -> None:
        pass
