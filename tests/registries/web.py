"""A web server on this machine that hands out a folder or another server, and misbehaves when told to."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What goes over the wire.

    raw: instead of everything else. cut: the connection is reset after so many bytes. pause: seconds between
    one byte and the next.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes | None = None
    cut: int | None = None
    pause: float = 0.0

    def wire(self) -> bytes:
        if self.raw is not None:
            return self.raw
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"HTTP/1.1 {self.status} Some words\r\n{head}\r\n".encode("latin-1") + self.body


@dataclass(frozen=True)
class Request:
    path: str
    headers: Message
    method: str = "GET"
    body: bytes = b""


Twist = Callable[[Request, Answer], Answer]


def of(status: int, body: bytes = b"", **headers: str) -> Answer:
    """A whole answer; `retry_after="1"` is the header Retry-After."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Answer(status, {"Content-Length": str(len(body)), **named}, body)


class Web:
    """The server; `twist` may replace every answer, `requests` are those that came."""

    def __init__(self, folder: Path, *, certificate: Path | None = None) -> None:
        self.folder = folder
        self.twist: Twist = lambda request, answer: answer
        self.requests: list[Request] = []
        self.connections = 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def setup(self) -> None:
                web.connections += 1
                super().setup()

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                request = Request(self.path, self.headers, self.command, self.rfile.read(length))
                web.requests.append(request)
                self._send(web.twist(request, web.plain(request)))

            def _send(self, answer: Answer) -> None:
                data = answer.wire()
                if answer.cut is not None:
                    self.wfile.write(data[: answer.cut])
                    # A linger of zero makes the kernel send a reset in place of a farewell.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                elif answer.pause:
                    for byte in data:
                        self.wfile.write(bytes([byte]))
                        time.sleep(answer.pause)
                else:
                    self.wfile.write(data)
                length = answer.headers.get("Content-Length", "0" if answer.status == 304 else "-1")
                if answer.raw is not None or length != str(len(answer.body)):
                    self.close_connection = True

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT"):
            setattr(Handler, f"do_{method}", Handler.do_GET)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # clients that hang up on a hostile server are right

        self._server = Server(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.scheme = "https"
        self.port = int(self._server.server_address[1])
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def plain(self, request: Request) -> Answer:
        """The honest answer: the file, its ETag, 304 where the client has it, 404 where there is none."""
        try:
            data = (self.folder / request.path.partition("?")[0].lstrip("/")).read_bytes()
        except OSError:
            return of(404)
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == tag:
            return Answer(304, {"Etag": tag})
        return of(200, data, etag=tag)

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Relay(Web):
    """Hands every request on to the server at `upstream`, and what that says back."""

    def __init__(self, upstream: str) -> None:
        super().__init__(Path())
        self._upstream = urlsplit(upstream).netloc

    def plain(self, request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_ONE_HOP}
        connection = HTTPConnection(self._upstream, timeout=60)
        try:
            connection.request(request.method, request.path, request.body or None, headers)
            got = connection.getresponse()
            body = got.read()
        finally:
            connection.close()
        said = {name: value for name, value in got.getheaders() if name.lower() not in _OF_ONE_HOP}
        length = got.headers.get("Content-Length") if request.method == "HEAD" else str(len(body))
        if length is not None and got.status not in (204, 304):
            said["Content-Length"] = length
        return Answer(got.status, said, body)


_OF_ONE_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")


@contextmanager
def relaying(upstream: str) -> Iterator[Relay]:
    relay = Relay(upstream)
    try:
        yield relay
    finally:
        with contextlib.suppress(OSError):
            relay.close()


@contextmanager
def serving(folder: Path, *, certificate: Path | None = None) -> Iterator[Web]:
    web = Web(folder, certificate=certificate)
    try:
        yield web
    finally:
        with contextlib.suppress(OSError):
            web.close()


def first(times: int, answer: Answer | Twist) -> Twist:
    """A twist of the first `times` answers."""
    left = [times]

    def twist(request: Request, honest: Answer) -> Answer:
        if left[0] <= 0:
            return honest
        left[0] -= 1
        return answer if isinstance(answer, Answer) else answer(request, honest)

    return twist


def cut(answer: Answer, at: int) -> Answer:
    """The answer, reset after `at` bytes."""
    return replace(answer, cut=at)
