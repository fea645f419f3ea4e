"""Pooled HTTP connections, each ended when the deadline of its request has passed."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from perfusion_registry.registries.proxy import Proxy, proxy_for

if TYPE_CHECKING:
    import urllib3

_SERVERS = 8
_CONNECTIONS = 16  # to one server
_CONNECT = 10.0  # seconds to connect
_SILENCE = 15.0  # seconds without a byte


class Deadline:
    """Shuts down the connection of a request after so many seconds, whatever the server is doing.

    A timeout of urllib3 bounds a single wait for some bytes; a server that sends one byte now and then never
    exceeds it.
    """

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._ends = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(max(seconds, 0), self._end)
        self._timer.daemon = True
        self._timer.start()

    @property
    def remaining(self) -> float:
        """Seconds until then."""
        return max(self._ends - time.monotonic(), 0.001)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within this context, watch the connections that this thread opens or reuses."""
        token = _DEADLINE.set(self)
        try:
            yield
        finally:
            _DEADLINE.reset(token)

    def watch(self, connection: socket.socket) -> None:
        """Shut this connection down when the time is over."""
        with self._lock:
            self._forget()
            # A copy of the descriptor: a TLS handshake detaches the socket from the first one.
            self._socket = socket.fromfd(connection.fileno(), connection.family, connection.type)
        if self.expired:
            self._end()

    def stop(self) -> None:
        """The request is done: leave its connection alone."""
        self._timer.cancel()
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _end(self) -> None:
        with self._lock:
            self.expired = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                self._forget()


_DEADLINE: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def send(
    method: str, url: str, headers: Mapping[str, str], deadline: Deadline, body: bytes | None = None
) -> urllib3.BaseHTTPResponse:
    """One request, and no redirect followed; the answer's body is unread. Raises one of `network_errors`."""
    import urllib3

    timeout = urllib3.Timeout(
        connect=min(_CONNECT, deadline.remaining), read=min(_SILENCE, deadline.remaining)
    )
    with deadline.watching():
        return pool_for(url).request(
            method,
            url,
            headers=dict(headers),
            body=body,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=timeout,
        )


def network_errors() -> tuple[type[Exception], ...]:
    """What sending and reading raise; http.client raises ValueError on a connection that a deadline ended."""
    import urllib3

    return urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError


def pool_for(url: str) -> urllib3.PoolManager:
    """The connections for `url`: one pool for all, or one for the proxy that the environment names."""
    return _pool(proxy_for(url))


@functools.cache
def _pool(proxy: Proxy | None) -> urllib3.PoolManager:
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Watched:
        """What both kinds of connection do: hand their sockets, new and reused, to the deadline."""

        sock: socket.socket | None

        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()  # type: ignore[misc]
            _watch(made)
            return made

        def request(self, *arguments: Any, **named: Any) -> None:
            if self.sock is not None:
                _watch(self.sock)
            super().request(*arguments, **named)  # type: ignore[misc]

    class Plain(Watched, HTTPConnection):
        pass

    class Secure(Watched, HTTPSConnection):
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    pool = (
        urllib3.ProxyManager(proxy.url, proxy_headers=proxy.headers, num_pools=_SERVERS, maxsize=_CONNECTIONS)
        if proxy
        else urllib3.PoolManager(num_pools=_SERVERS, maxsize=_CONNECTIONS)
    )
    pool.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return pool


def _watch(connection: socket.socket) -> None:
    deadline = _DEADLINE.get()
    if deadline is not None:
        deadline.watch(connection)
