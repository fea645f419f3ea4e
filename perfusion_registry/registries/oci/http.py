"""Requests to one OCI registry: authorized where it asks for that, and repeated where that may help."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from perfusion_registry.registries.backoff import BACKOFF, Backoff
from perfusion_registry.registries.body import discard, read_pieces, read_whole
from perfusion_registry.registries.freshness import retry_after
from perfusion_registry.registries.oci.token import Authenticator
from perfusion_registry.registries.registry import RegistryError, TransferError
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

LARGEST_ANSWER = 4 * 2**20
"""Bytes of a manifest, a tag list or a token that are read at most."""

PATIENCE = 30.0
"""Seconds for one answer; for a blob, that and its size over the slowest speed."""

_ATTEMPTS = 4


@dataclass(frozen=True)
class Answer:
    """The answer of a registry, read whole; header names are lowercase."""

    status: int
    headers: Mapping[str, str]
    data: bytes = field(repr=False)
    url: str


class OciHttp:
    """HTTP with the registry at `origin`; `authenticator` answers its challenges.

    Every operation of OCI can be repeated, so an attempt that failed for the moment (a reset, a 503) is
    repeated, four times at most with growing pauses. Redirects, which registries use to hand out blobs from
    other hosts, are followed without credentials."""

    def __init__(self, origin: Origin, authenticator: Authenticator, backoff: Backoff = BACKOFF) -> None:
        self.origin = origin
        self._authenticator = authenticator
        self._backoff = backoff

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
                response = self._open(method, url, scope, seconds, headers or {}, body)
                answer = _answer(response, read_whole(response, LARGEST_ANSWER))
            except TransferError:
                if attempt == attempts:
                    raise
                self.pause(attempt)
                continue
            if not is_passing(answer.status) or attempt == attempts:
                return answer
            self.pause(attempt, retry_after(answer.headers.get("retry-after")))
        raise AssertionError("unreachable")

    def pieces(self, url: str, *, scope: str, size: int) -> Iterator[bytes]:
        """The `size` bytes at `url` in pieces, in one attempt.

        Raises RegistryError when they are not there, and TransferError when they do not arrive, or are more.
        """
        response = self._open("GET", url, scope, PATIENCE + size / SLOWEST)
        if response.status != 200:
            discard(response)
            if is_passing(response.status):
                raise TransferError(
                    f"the registry answers {response.status}", where=redact(url), hint="try again later"
                )
            raise RegistryError(
                f"the registry does not hand out this blob (it answers {response.status})",
                where=redact(url),
                hint="tell the registry's keeper",
            )
        had = 0
        for piece in read_pieces(response, size):
            had += len(piece)
            yield piece
        if had < size:
            raise TransferError(
                f"the registry breaks off after {had:,} of {size:,} bytes",
                where=redact(url),
                hint="try again",
            )

    def pause(self, tries: int, asked: float = 0.0) -> None:
        """Wait before the next try, after so many; asked: the seconds that the registry asks for."""
        time.sleep(self._backoff.wait(tries, asked))

    def _open(
        self,
        method: str,
        url: str,
        scope: str,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """A response whose body is unread, after redirects and after a challenge."""
        response = open_url(
            method,
            url,
            home=self.origin,
            seconds=seconds,
            headers=headers or {},
            body=body,
            authorization=self._authenticator.authorization(scope),
            challenge=lambda challenges, tried: self._authenticator.answer(challenges, scope, tried=tried),
        )
        if response.status == 401 and origin_of(response.url) == self.origin:
            discard(response)
            raise self._authenticator.refusal()
        if response.status in (401, 403) and response.elsewhere:
            discard(response)
            raise refusal_elsewhere(response)
        return response


def fetch_once(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """GET something small, once and without following redirects: its status and its bytes."""
    home = origin_of(url)
    if home is None:
        raise RegistryError("this address cannot be understood", where=redact(url))
    response = open_url("GET", url, home=home, seconds=PATIENCE, headers=headers, follow=False)
    return response.status, read_whole(response, LARGEST_ANSWER)


def _answer(response: Response, data: bytes) -> Answer:
    lowercase = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, lowercase, data, response.url)
