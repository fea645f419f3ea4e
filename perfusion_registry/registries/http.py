"""A registry on any web server that serves files: read-only, with mirrors, and nothing in it is trusted.

What may be over soon (a reset, a truncation, a 503, a slow answer) is tried again; each try is bounded, and
so are all of them together.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from perfusion_registry.registries.backoff import BACKOFF, Backoff
from perfusion_registry.registries.body import discard, read_pieces, read_whole
from perfusion_registry.registries.bucket import NotModified, StoredObject
from perfusion_registry.registries.credentials import Credentials, credentials_for, mirror_credentials
from perfusion_registry.registries.freshness import conditions, retry_after, tag_of
from perfusion_registry.registries.memory import identity
from perfusion_registry.registries.registry import Backend, Registry, RegistryError, TransferError
from perfusion_registry.registries.sparse import SparseRegistry
from perfusion_registry.registries.transport import (
    SLOWEST,
    Origin,
    Response,
    is_passing,
    open_url,
    origin_of,
    redact,
    refusal_elsewhere,
)

ROUNDS = 5
_TRIES = 3  # as slow as can be that fit into the patience
_MISSING = (404, 410, 451)

Result = TypeVar("Result")


class _BusyError(TransferError):
    """The server is busy, and asks for `wait` seconds of rest."""

    wait = 0.0


class HttpBucket:
    """The bucket at one or several base addresses, tried in order; `url` is how the user named them.

    mirrors: address -> credentials for it. patience: seconds for all tries of one object. backoff: the pauses
    between the rounds of tries.
    """

    def __init__(
        self,
        url: str,
        mirrors: Mapping[str, Credentials | None],
        *,
        patience: float = 60.0,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._url = url
        self._mirrors = {mirror.rstrip("/"): credentials for mirror, credentials in mirrors.items()}
        self._homes = {mirror: _home(mirror) for mirror in self._mirrors}
        self._patience = patience
        self._backoff = backoff
        self._asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """The addresses as the user named them."""
        return self._url

    @property
    def identity(self) -> str:
        """The first address."""
        return identity(self._url)

    def get(self, key: str, *, limit: int, known_tag: str | None = None) -> StoredObject | NotModified | None:
        """The object; its tag holds the ETag or the Last-Modified that the mirror gave it."""

        def read(mirror: str, response: Response) -> StoredObject | NotModified:
            if response.status == 304:
                discard(response)
                return NotModified()
            data = read_whole(response, limit)
            return StoredObject(data, tag_of(response.headers, mirror))

        return self._tried(key, read, accept="gzip", known_tag=known_tag, size=0)

    def stream(self, key: str, *, limit: int) -> Iterator[bytes] | None:
        """The object in pieces; once it has begun, a broken transfer is a TransferError."""
        response = self._tried(
            key, lambda _, response: response, accept="identity", known_tag=None, size=limit
        )
        return None if response is None else read_pieces(response, limit)

    def check_writable(self) -> None:
        """Raise RegistryError: a plain web server takes nothing."""
        raise RegistryError(
            "a registry over HTTP can only be read",
            where=self._url,
            hint="publish to the folder or the bucket that this server serves, such as "
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
        self,
        key: str,
        use: Callable[[str, Response], Result],
        *,
        accept: str,
        known_tag: str | None,
        size: int,
    ) -> Result | None:
        """What `use` makes of a mirror and its answer, the first good one; None where none has the object.

        A mirror that refuses is left out of the further rounds. An object asked for again is looked for at
        the next mirror first: who asks again could not use what came.
        """
        one_try = self._patience / _TRIES + size / SLOWEST
        ends = time.monotonic() + self._patience + size / SLOWEST
        mirrors = list(self._mirrors)
        first = self._asked[key] % len(mirrors)
        self._asked[key] += 1
        left = mirrors[first:] + mirrors[:first]
        failure: RegistryError | None = None
        for attempt in range(1, ROUNDS + 1):
            wait, missing = 0.0, 0
            for mirror in tuple(left):
                seconds = min(one_try, ends - time.monotonic())
                if seconds <= 0:
                    break
                try:
                    response = self._ask(mirror, key, accept, known_tag, seconds)
                    if response is not None:
                        return use(mirror, response)
                    missing += 1
                except TransferError as error:
                    failure = error
                    wait = max(wait, error.wait if isinstance(error, _BusyError) else 0.0)
                except RegistryError as error:
                    failure = error
                    left.remove(mirror)
            if missing == len(mirrors):
                return None
            if missing == len(left) and failure is not None:
                raise failure
            wait = self._backoff.wait(attempt, wait)
            if attempt == ROUNDS or time.monotonic() + wait > ends:
                break
            time.sleep(wait)
        assert failure is not None
        raise failure

    def _ask(
        self, mirror: str, key: str, accept: str, known_tag: str | None, seconds: float
    ) -> Response | None:
        """One answer of one mirror, 200 or 304, after redirects; None where it has no such object."""
        condition = conditions(known_tag, mirror)
        credentials = self._mirrors[mirror]
        response = open_url(
            "GET",
            f"{mirror}/{key}",
            home=self._homes[mirror],
            seconds=seconds,
            headers={"Accept-Encoding": accept, **condition},
            authorization=credentials.authorization() if credentials else None,
        )
        if response.status == 200 or (response.status == 304 and condition):
            return response
        discard(response)
        if response.status in _MISSING:
            return None
        raise _refusal(response, credentials)


def open_web(url: str, *, name: str, root: Path, cache: Path) -> Registry:
    """The registry at one or several addresses of web servers; `name`'s credentials are for the first."""
    main, *mirrors = url.split(" ")
    given = {main: credentials_for(name, main)}
    given |= {mirror: mirror_credentials(mirror) for mirror in mirrors if mirror != main}
    return SparseRegistry(HttpBucket(url, given), cache=cache, name=name)


BACKEND = Backend(open_web)


def _refusal(response: Response, credentials: Credentials | None) -> RegistryError:
    """The error for a status that brings no object."""
    status, where = response.status, redact(response.url)
    if is_passing(status):
        busy = _BusyError(f"the server answers {status}", where=where, hint="try again later")
        busy.wait = retry_after(response.headers.get("retry-after"))
        return busy
    if status in (401, 403) and response.elsewhere:
        return refusal_elsewhere(response)
    if status in (401, 403):
        return RegistryError(
            f"the server refuses access ({status})"
            + (f" with the credentials from {credentials.source}" if credentials else ""),
            where=where,
            hint="set PERF_REGISTRY_<NAME>_TOKEN, or _USERNAME and _PASSWORD, or an entry in ~/.netrc"
            + ("; a public bucket must say 404, not 403, for what it lacks" if status == 403 else ""),
        )
    if status == 304:
        return TransferError("the server answers 304 to a request without a condition", where=where)
    return RegistryError(f"the server answers {status}, which perf cannot use", where=where)


def _home(mirror: str) -> Origin:
    """The origin of an address to which keys are added; raises RegistryError where none can be."""
    home = origin_of(mirror)
    if home is None or urlsplit(mirror).query or urlsplit(mirror).fragment:
        raise RegistryError(
            "this is not a plain address of a web server", where=mirror, hint="give `https://host/folder`"
        )
    return home
