"""Connections, shared by everything that speaks HTTP here, and ended when their time is over."""

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
from urllib.parse import urlsplit

from perfusion_registry.registries.credentials import is_loopback

if TYPE_CHECKING:
    import urllib3

_SERVERS = 8
_CONNECTIONS = 16  # to one server
_CONNECT = 10.0  # seconds to connect
_SILENCE = 15.0  # seconds without a byte


class Watch:
    """Ends the connection that it sees after so many seconds, whatever the server is doing.

    A timeout of urllib3 bounds one wait for some bytes; a server that sends a byte of its headers now and
    then meets every one of them.
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
    def left(self) -> float:
        """Seconds until the end."""
        return max(self._ends - time.monotonic(), 0.001)

    @contextmanager
    def seeing(self) -> Iterator[None]:
        """Within it, see the connection that this thread uses."""
        token = _WATCH.set(self)
        try:
            yield
        finally:
            _WATCH.reset(token)

    def see(self, connection: socket.socket) -> None:
        """Watch this connection; a copy of its descriptor outlives a TLS handshake."""
        with self._lock:
            self._forget()
            self._socket = socket.fromfd(connection.fileno(), connection.family, connection.type)
        if self.expired:
            self._end()

    def stop(self) -> None:
        """Watch no more."""
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


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


def send(
    method: str, url: str, headers: Mapping[str, str], watch: Watch, body: bytes | None = None
) -> urllib3.BaseHTTPResponse:
    """One request, and no redirect followed; the answer's body is unread. Raises `failures`."""
    import urllib3

    timeout = urllib3.Timeout(connect=min(_CONNECT, watch.left), read=min(_SILENCE, watch.left))
    with watch.seeing():
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


def failures() -> tuple[type[Exception], ...]:
    """What sending and reading raise: ValueError is http.client on a connection that its watch has ended."""
    import urllib3

    return urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError


def pool_for(url: str) -> urllib3.PoolManager:
    """The connections to use for `url`: one pool for all, or one for the proxy that the environment names."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies_environment()
    direct = is_loopback(host) or proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies)
    return _pool(None if direct else proxies.get(parts.scheme) or proxies.get("all"))


@functools.cache
def _pool(proxy: str | None) -> urllib3.PoolManager:
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Watched:
        """What both kinds of connection do for the watch: show it their sockets, new and used again."""

        sock: socket.socket | None

        def _new_conn(self) -> socket.socket:
            made: socket.socket = super()._new_conn()  # type: ignore[misc]
            _show(made)
            return made

        def request(self, *arguments: Any, **named: Any) -> None:
            if self.sock is not None:
                _show(self.sock)
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
        urllib3.ProxyManager(proxy, num_pools=_SERVERS, maxsize=_CONNECTIONS)
        if proxy
        else urllib3.PoolManager(num_pools=_SERVERS, maxsize=_CONNECTIONS)
    )
    pool.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return pool


def _show(connection: socket.socket) -> None:
    watch = _WATCH.get()
    if watch is not None:
        watch.see(connection)
