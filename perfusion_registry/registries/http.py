"""A registry on any web server that hands out files: read-only, with mirrors, and believed in nothing.

Whatever passes by itself (a reset, a truncation, a 503, a slow answer) is tried again, each try and all of
them together within bounds. Redirects are followed by hand.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

from perfusion_registry.registries.answer import Answer, broken, dismiss, pieces, shown
from perfusion_registry.registries.bucket import Found, NotModified
from perfusion_registry.registries.credentials import Credentials, is_loopback
from perfusion_registry.registries.freshness import conditions, retry_after, tag_of
from perfusion_registry.registries.memory import identity
from perfusion_registry.registries.pool import Watch, failures, send
from perfusion_registry.registries.registry import RegistryError, TransferError

if TYPE_CHECKING:
    import urllib3

ROUNDS = 5
MOST_REDIRECTS = 5
_SLOWEST = 20_000  # bytes a second that a large object may take its time at
_TRIES = 3  # as slow as can be that fit into the patience
_MISSING = (404, 410, 451)
_MOVED = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)

Result = TypeVar("Result")


class _BusyError(TransferError):
    """The server asks to be left alone for `wait` seconds."""

    wait = 0.0


class HttpBucket:
    """The bucket at one or several base addresses, tried in order; `url` is how the user named them.

    mirrors: address -> credentials for it. patience: seconds for all tries of one object. pause: seconds
    before the second round of tries; each further one waits twice as long.
    """

    def __init__(
        self,
        url: str,
        mirrors: Mapping[str, Credentials | None],
        *,
        patience: float = 60.0,
        pause: float = 0.2,
    ) -> None:
        self._url = url
        self._mirrors = {_base(mirror): credentials for mirror, credentials in mirrors.items()}
        self._patience = patience
        self._pause = pause
        self._asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """The addresses as the user named them."""
        return self._url

    @property
    def identity(self) -> str:
        """The first address."""
        return identity(self._url)

    def get(self, key: str, *, limit: int, known: str | None = None) -> Found | NotModified | None:
        """The object; its tag holds the ETag or the Last-Modified that the mirror gave it."""

        def read(answer: Answer) -> Found | NotModified:
            if answer.response.status == 304:
                dismiss(answer.response)
                answer.watch.stop()
                return NotModified()
            data = b"".join(pieces(answer, limit))
            return Found(data, tag_of(answer.response.headers, answer.mirror))

        return self._tried(key, read, accept="gzip", known=known, size=0)

    def stream(self, key: str, *, limit: int) -> Iterator[bytes] | None:
        """The object in pieces; once it has begun, a broken transfer is a TransferError."""
        answer = self._tried(key, lambda answer: answer, accept="identity", known=None, size=limit)
        return None if answer is None else pieces(answer, limit)

    def check_writable(self) -> None:
        """Raise RegistryError: a plain web server takes nothing."""
        raise RegistryError(
            "a registry over HTTP can only be read",
            where=self._url,
            hint="publish to the folder or the bucket that this server hands out, such as "
            "`perf publish --registry /srv/concepts`",
        )

    def create(self, key: str, data: bytes) -> bool:
        """Raise RegistryError."""
        self.check_writable()
        return False

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        """Raise RegistryError."""
        self.check_writable()
        return False

    def _tried(
        self, key: str, use: Callable[[Answer], Result], *, accept: str, known: str | None, size: int
    ) -> Result | None:
        """What `use` makes of the first good answer; None where every mirror says that it has no such object.

        A mirror that refuses is left out of the further rounds. An object asked for again is looked for at
        the next mirror first: who asks again could not use what came.
        """
        one_try = self._patience / _TRIES + size / _SLOWEST
        ends = time.monotonic() + self._patience + size / _SLOWEST
        every = list(self._mirrors)
        first = self._asked[key] % len(every)
        self._asked[key] += 1
        left = every[first:] + every[:first]
        failure: RegistryError | None = None
        for attempt in range(ROUNDS):
            wait, missing = 0.0, 0
            for mirror in tuple(left):
                seconds = min(one_try, ends - time.monotonic())
                if seconds <= 0:
                    break
                try:
                    answer = self._ask(mirror, key, accept, known, seconds)
                    if answer is not None:
                        return use(answer)
                    missing += 1
                except TransferError as error:
                    failure = error
                    wait = max(wait, error.wait if isinstance(error, _BusyError) else 0.0)
                except RegistryError as error:
                    failure = error
                    left.remove(mirror)
            if missing == len(every):
                return None
            if missing == len(left) and failure is not None:
                raise failure
            wait = max(wait, self._pause * 2**attempt * random.uniform(0.5, 1.5))
            if attempt == ROUNDS - 1 or time.monotonic() + wait > ends:
                break
            time.sleep(wait)
        assert failure is not None
        raise failure

    def _ask(self, mirror: str, key: str, accept: str, known: str | None, seconds: float) -> Answer | None:
        """One answer of one mirror, 200 or 304, after redirects; None where it has no such object."""
        headers = {"Accept-Encoding": accept, "User-Agent": "perf"} | conditions(known, mirror)
        url = f"{mirror}/{key}"
        watch = Watch(seconds)
        try:
            for _ in range(MOST_REDIRECTS + 1):
                response = self._send(url, headers, mirror, watch)
                if response.status not in _MOVED:
                    break
                location = response.headers.get("location", "")
                dismiss(response)
                url = _led(url, location, mirror)
            else:
                raise RegistryError(
                    f"the server redirects more than {MOST_REDIRECTS} times", where=shown(url)
                )
            answer = Answer(response, mirror, url, watch)
            if response.status == 200 or (response.status == 304 and conditions(known, mirror)):
                return answer
            dismiss(response)
            watch.stop()
            if response.status in _MISSING:
                return None
            raise self._refused(answer)
        except BaseException:
            watch.stop()
            raise

    def _send(
        self, url: str, headers: Mapping[str, str], mirror: str, watch: Watch
    ) -> urllib3.BaseHTTPResponse:
        sent = dict(headers)
        credentials = self._mirrors[mirror]
        if credentials is not None and _origin(url) == _origin(mirror):
            sent["Authorization"] = credentials.authorization()
        try:
            return send("GET", url, sent, watch)
        except failures() as error:
            raise broken(error, url, watch) from error

    def _refused(self, answer: Answer) -> RegistryError:
        """The error for a status that brings no object."""
        status, where = answer.response.status, shown(answer.url)
        if status in _PASSING:
            busy = _BusyError(f"the server answers {status}", where=where, hint="try again later")
            busy.wait = retry_after(answer.response.headers.get("retry-after"))
            return busy
        if status in (401, 403, 407):
            given = self._mirrors[answer.mirror]
            return RegistryError(
                f"the server refuses access ({status})"
                + (f" with the credentials from {given.source}" if given else ""),
                where=where,
                hint="set PERF_REGISTRY_<NAME>_TOKEN, or _USERNAME and _PASSWORD, or an entry in ~/.netrc"
                + ("; a public bucket must say 404, not 403, for what it lacks" if status == 403 else ""),
            )
        if status == 304:
            return TransferError("the server answers 304 to a question without a condition", where=where)
        return RegistryError(f"the server answers {status}, which perf cannot use", where=where)


def _led(url: str, location: str, mirror: str) -> str:
    """Where a redirect from `url` leads; raises RegistryError where it must not be followed."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        host, _ = parts.hostname, parts.port
    except ValueError:
        target, host, parts = "", None, urlsplit("")
    plain = parts.scheme in ("http", "https") and "@" not in parts.netloc and target.isprintable()
    if not location or not host or not plain:
        raise RegistryError("the server redirects to no address that perf can follow", where=shown(url))
    insecure = urlsplit(url).scheme == "https" and parts.scheme == "http"
    if insecure or (is_loopback(host) and not is_loopback(urlsplit(mirror).hostname)):
        raise RegistryError(
            f"the server redirects from {_origin(url)} to {_origin(target)}, where perf does not follow",
            where=shown(url),
            hint="tell the registry's keeper",
        )
    return target


def _base(mirror: str) -> str:
    """An address to which keys are added; raises RegistryError where none can be."""
    try:
        parts = urlsplit(mirror)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise RegistryError(
            "this is no plain address of a web server", where=mirror, hint="give `https://host/folder`"
        )
    return mirror.rstrip("/")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"
