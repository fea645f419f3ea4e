"""Requests to one OCI registry: bounded retries, bounded answers, redirects that carry no credentials."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from perfusion_registry.registries.answer import shown
from perfusion_registry.registries.oci_place import Origin, origin_of
from perfusion_registry.registries.oci_token import Authority
from perfusion_registry.registries.pool import Watch, failures, send
from perfusion_registry.registries.registry import RegistryError, TransferError

if TYPE_CHECKING:
    import urllib3

LARGEST_ANSWER = 4 * 2**20
"""Bytes of a manifest, a tag list or a token that are read at most."""

PATIENCE = 30.0
"""Seconds for one answer; for a blob, that and its size over the slowest speed."""

_ATTEMPTS = 4
_REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)
_PASSING = (408, 429, 500, 502, 503, 504)
_SLOWEST = 20_000
_PIECE = 2**16
_LONGEST_PAUSE = 10.0


@dataclass(frozen=True)
class Answer:
    """What a registry said, read whole; header names are lowercase."""

    status: int
    headers: Mapping[str, str]
    data: bytes = field(repr=False)
    url: str


class OciHttp:
    """HTTP with the registry at `origin`; `authority` finds what each request may prove.

    Every operation of OCI can be repeated, so an attempt that failed in passing (a reset, a 503) is made
    again, four times at most with growing pauses. Credentials go to the registry's own origin only:
    redirects, which registries use to hand out blobs from other hosts, are followed without them, and never
    from HTTPS to HTTP."""

    def __init__(self, origin: Origin, authority: Authority) -> None:
        self.origin = origin
        self._authority = authority

    def ask(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        attempts: int = _ATTEMPTS,
        seconds: float = PATIENCE,
    ) -> Answer:
        """The answer to a request, whatever its status.

        attempts, seconds: how often it is tried, and how long one try may take. Raises RegistryError when
        no attempt got an answer.
        """
        for attempt in range(1, attempts + 1):
            try:
                answer = self._once(method, url, scope, headers or {}, body, seconds)
            except TransferError:
                if attempt == attempts:
                    raise
                pause(attempt)
                continue
            if answer.status not in _PASSING or attempt == attempts:
                return answer
            pause(attempt, answer.headers.get("retry-after"))
        raise AssertionError("unreachable")

    def pieces(self, url: str, *, scope: str, size: int) -> Iterator[bytes]:
        """The `size` bytes at `url` in pieces, in one attempt.

        Raises RegistryError when they are not there, and TransferError when they do not arrive, or are more.
        """
        watch = Watch(PATIENCE + size / _SLOWEST)
        try:
            response, final = self._open("GET", url, scope, {}, None, watch)
            if response.status in _PASSING:
                raise _passing(f"the registry answers {response.status}", url)
            if response.status != 200:
                raise RegistryError(
                    f"the registry does not hand out this blob (it answers {response.status})",
                    where=shown(url),
                    hint="tell the registry's keeper",
                )
            had = 0
            for piece in _read(response, final, watch):
                had += len(piece)
                if had > size:
                    raise _passing(f"the registry sends more than the {size:,} bytes of this blob", url)
                yield piece
            if had < size:
                raise _passing(f"the registry breaks off after {had:,} of {size:,} bytes", url)
            response.release_conn()
        finally:
            watch.stop()

    def _once(
        self,
        method: str,
        url: str,
        scope: str,
        headers: Mapping[str, str],
        body: bytes | None,
        seconds: float,
    ) -> Answer:
        watch = Watch(seconds)
        try:
            response, url = self._open(method, url, scope, headers, body, watch)
            data = _whole(response, url, watch)
        finally:
            watch.stop()
        lowercase = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, lowercase, data, url)

    def _open(
        self,
        method: str,
        url: str,
        scope: str,
        headers: Mapping[str, str],
        body: bytes | None,
        watch: Watch,
    ) -> tuple[urllib3.BaseHTTPResponse, str]:
        """A response whose body is unread, after redirects and after proving who we are where asked."""
        proof = self._authority.proof(scope)
        challenged = False
        for _ in range(_REDIRECTS + 3):
            origin = origin_of(url)
            if origin is None:
                raise RegistryError(
                    "the registry leads to an address that perf does not know", where=shown(url)
                )
            ours = origin == self.origin
            sent = {**headers, "Accept-Encoding": "identity", "User-Agent": "perf"}
            if ours and proof is not None:
                sent["Authorization"] = proof
            response = _sent(method, url, sent, body, watch)
            if response.status == 401 and ours:
                challenges = response.headers.getlist("www-authenticate")
                response.close()
                if challenged:
                    raise self._authority.refused()
                proof = self._authority.answer(challenges, scope, tried=proof)
                challenged = True
            elif response.status in _MOVED and method in ("GET", "HEAD"):
                target = response.headers.get("location", "")
                response.close()
                url = self.led(url, target)
            else:
                return response, url
        raise RegistryError("the registry redirects without end", where=shown(url))

    def led(self, url: str, location: str) -> str:
        """Where the Location header of an answer from `url` leads.

        Raises RegistryError where it leads nowhere, from HTTPS to HTTP, or from outside into this machine.
        """
        try:
            target = urljoin(url, location)
        except ValueError:
            target = ""
        origin, to = origin_of(url), origin_of(target)
        if origin is None or to is None or not location:
            raise RegistryError("the registry leads to no address", where=shown(url))
        if (origin.scheme == "https" and to.scheme != "https") or (to.loopback and not self.origin.loopback):
            raise RegistryError(
                f"the registry leads to {to}, where perf does not follow it",
                where=shown(url),
                hint="tell the registry's owner",
            )
        return target


def fetch_once(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """GET a small thing by itself, following no redirect: its status and its bytes."""
    watch = Watch(PATIENCE)
    try:
        sent = {**headers, "Accept-Encoding": "identity", "User-Agent": "perf"}
        response = _sent("GET", url, sent, None, watch)
        return response.status, _whole(response, url, watch)
    finally:
        watch.stop()


def _sent(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, watch: Watch
) -> urllib3.BaseHTTPResponse:
    """The answer to one request; its body is unread."""
    try:
        return send(method, url, headers, watch, body)
    except failures() as error:
        raise _passing(f"the registry does not answer: {_why(error, watch)}", url) from error


def _whole(response: urllib3.BaseHTTPResponse, url: str, watch: Watch) -> bytes:
    """The body of an answer, which is small; raises RegistryError when it is not."""
    pieces: list[bytes] = []
    had = 0
    for piece in _read(response, url, watch):
        had += len(piece)
        if had > LARGEST_ANSWER:
            response.close()
            raise RegistryError(
                f"the registry answers with more than {LARGEST_ANSWER:,} bytes", where=shown(url)
            )
        pieces.append(piece)
    response.release_conn()
    return b"".join(pieces)


def _read(response: urllib3.BaseHTTPResponse, url: str, watch: Watch) -> Iterator[bytes]:
    """The raw body in pieces, as they arrive; raises TransferError when it breaks off or is too slow."""
    whole = False
    try:
        while piece := response.read1(_PIECE, decode_content=False):
            yield piece
        if watch.expired:
            raise _passing("the registry is too slow", url)
        whole = True
    except failures() as error:
        raise _passing(f"the registry breaks off: {_why(error, watch)}", url) from error
    finally:
        if not whole:
            response.close()


def _passing(what: str, url: str) -> TransferError:
    """Trouble that another attempt may not have."""
    return TransferError(what, where=shown(url), hint="check the address and the network, then try again")


def _why(error: Exception, watch: Watch) -> str:
    """An error of urllib3 in few words."""
    import urllib3

    if watch.expired or isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError)):
        return "it is too slow"
    if isinstance(error, urllib3.exceptions.SSLError):
        return f"its certificate is not accepted ({error})"[:200]
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name is not known"
    cause = error.__cause__ or error.__context__
    text = cause.strerror if isinstance(cause, OSError) else None
    return text or type(error).__name__


def pause(attempt: int, asked: str | None = None) -> None:
    """Wait before the next attempt: as long as the server asked within reason, else ever longer."""
    wait = 0.1 * 2**attempt * random.uniform(0.5, 1.5)
    if asked is not None and asked.isascii() and asked.isdigit() and len(asked) < 6:
        wait = max(wait, float(asked))
    time.sleep(min(wait, _LONGEST_PAUSE))
