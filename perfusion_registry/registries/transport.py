"""HTTP as every backend speaks it: one request and its redirects, in bounded time.

    Origin            scheme, host and port: what credentials belong to
    open_url          a request, its redirects and at most one challenge; the answer's body is unread (`body`)
    is_passing        which statuses are worth another try

Credentials go to the server that the user named, and to no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from perfusion_registry.registries.credentials import is_loopback
from perfusion_registry.registries.pool import Deadline, network_errors, send
from perfusion_registry.registries.proxy import PORTS, login_error, proxy_error, proxy_for
from perfusion_registry.registries.registry import RegistryError, TransferError

if TYPE_CHECKING:
    import urllib3

MOST_REDIRECTS = 5

SLOWEST = 20_000
"""Bytes a second: a large object may take its time at this speed, on top of the time for any answer."""

_MOVED = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429)
_FOR_GOOD = (501, 505)  # of the server's errors, those that it has every time

Challenge = Callable[[Sequence[str], str | None], str]
"""From the challenges of a 401 and the Authorization that it refused to the next one to send."""


@dataclass(frozen=True)
class Origin:
    """A scheme, host and port: what credentials belong to."""

    scheme: str
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether this is the machine itself."""
        return is_loopback(self.host)

    @property
    def secure(self) -> bool:
        """Whether nobody on the way can read or change what is sent."""
        return self.scheme == "https" or self.loopback

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def origin_of(url: str) -> Origin | None:
    """The origin of an HTTP URL; None where it is not one, or carries a user name."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname or "@" in parts.netloc or not url.isprintable():
        return None
    return Origin(parts.scheme, parts.hostname, port or PORTS[parts.scheme])


@dataclass(frozen=True)
class Response:
    """An answer whose body is unread.

    url: where it came from, after redirects. deadline: shuts its connection down when the time is over.
    elsewhere: whether it came from another server than the user named, to which no credentials are sent.
    """

    raw: urllib3.BaseHTTPResponse
    method: str
    url: str
    deadline: Deadline
    elsewhere: bool = False

    @property
    def status(self) -> int:
        """The status code."""
        return self.raw.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, in any letter case."""
        return self.raw.headers


def open_url(
    method: str,
    url: str,
    *,
    home: Origin,
    seconds: float,
    headers: Mapping[str, str],
    body: bytes | None = None,
    authorization: str | None = None,
    challenge: Challenge | None = None,
    follow: bool = True,
) -> Response:
    """One request to `url`, once, and the redirects of a GET or HEAD; the answer may have any status.

    home: the origin that the user named. Only requests to it carry `authorization`, only its first 401 is
    answered by `challenge`, and redirects are followed as `resolve_redirect` says. seconds: for all of it,
    reading the body included; what reads it (`body`) stops the deadline. Raises RegistryError where
    the server cannot be understood or must not be followed, TransferError where it does not answer.
    """
    deadline = Deadline(seconds)
    redirects = 0
    try:
        while True:
            at_home = origin_of(url) == home
            sent = {"Accept-Encoding": "identity", "User-Agent": "perf", **headers}
            if at_home and authorization is not None:
                sent["Authorization"] = authorization
            try:
                raw = send(method, url, sent, deadline, body)
            except network_errors() as error:
                raise transfer_error(error, url, deadline) from error
            if raw.status == 407:
                drain(raw)
                raise login_error(proxy_for(url))
            if raw.status == 401 and at_home and challenge is not None:
                challenges = raw.headers.getlist("www-authenticate")
                drain(raw)
                authorization, challenge = challenge(challenges, authorization), None
            elif raw.status in _MOVED and method in ("GET", "HEAD") and follow:
                location = raw.headers.get("location", "")
                drain(raw)
                redirects += 1
                if redirects > MOST_REDIRECTS:
                    raise RegistryError(
                        f"the server redirects more than {MOST_REDIRECTS} times", where=redact(url)
                    )
                url = resolve_redirect(url, location, home)
            else:
                return Response(raw, method, url, deadline, elsewhere=not at_home)
    except BaseException:
        deadline.stop()
        raise


def resolve_redirect(url: str, location: str, home: Origin) -> str:
    """Where the Location header of an answer from `url` leads.

    Raises RegistryError where it leads nowhere, from HTTPS to HTTP, or to this machine when `home`, where the
    user sent the first request, is another.
    """
    try:
        target = urljoin(url, location)
    except ValueError:
        target = ""
    origin, to = origin_of(url), origin_of(target)
    if origin is None or to is None or not location:
        raise RegistryError("the server redirects to an address that perf cannot follow", where=redact(url))
    if (origin.scheme == "https" and to.scheme != "https") or (to.loopback and not home.loopback):
        raise RegistryError(
            f"the server redirects from {origin} to {to}, where perf does not follow",
            where=redact(url),
            hint="tell the registry's keeper",
        )
    return target


def refusal_elsewhere(response: Response) -> RegistryError:
    """The error for a server that the user did not name and that refuses access: no login would help."""
    return RegistryError(
        f"the registry redirects to a server that refuses access ({response.status}); "
        "perf sends it no credentials",
        where=redact(response.url),
        hint="tell the registry's keeper",
    )


def is_passing(status: int) -> bool:
    """Whether a status means trouble that may be over at the next try."""
    return status in _PASSING or (status >= 500 and status not in _FOR_GOOD)


def drain(raw: urllib3.BaseHTTPResponse) -> None:
    """Free the connection of an answer whose body is not wanted: a short body is read, else it is closed."""
    length = raw.headers.get("content-length", "")
    short = raw.status == 304 or (length.isascii() and length.isdigit() and len(length) < 5)
    if short and "transfer-encoding" not in raw.headers:
        raw.drain_conn()
        raw.release_conn()
    else:
        raw.close()


def transfer_error(error: Exception, url: str, deadline: Deadline) -> RegistryError:
    """The error for an answer that did not come, or not whole."""
    import ssl

    import urllib3

    reason = error.args[-1] if error.args and isinstance(error.args[-1], Exception) else error
    hint = "check the address and the network, then try again"
    if isinstance(reason, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return RegistryError(
            "the server's certificate is not accepted",
            where=redact(url),
            hint="check the address; SSL_CERT_FILE names further certificate authorities",
        )
    if isinstance(error, urllib3.exceptions.LocationValueError):
        return RegistryError("this address cannot be understood", where=redact(url))
    if isinstance(error, urllib3.exceptions.ProxyError):
        return _proxy_error(error.original_error, url, deadline)
    if deadline.expired:
        what = "the server is too slow"
    elif isinstance(
        error, urllib3.exceptions.NewConnectionError
    ):  # which is a TimeoutError of urllib3's, too
        what = f"the server {_unreached(error)}"
    elif isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError):
        what = "the server is too slow"
    elif isinstance(reason, urllib3.exceptions.IncompleteRead | urllib3.exceptions.InvalidChunkLength):
        what = "the server's answer breaks off"
    else:
        what = f"the connection broke ({type(reason).__name__})"
    return TransferError(what, where=redact(url), hint=hint)


def _proxy_error(error: Exception, url: str, deadline: Deadline) -> RegistryError:
    """The error for a proxy that does not lead to `url`."""
    import urllib3

    proxy = proxy_for(url)
    refused = re.search(r"Tunnel connection failed: (\d{3})", str(error))
    if refused and refused[1] == "407":
        return login_error(proxy)
    if refused:
        what = f"does not connect to {origin_of(url)} (it answers {refused[1]})"
    elif isinstance(error, urllib3.exceptions.NewConnectionError) and not deadline.expired:
        what = _unreached(error)
    elif deadline.expired or isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError):
        what = "is too slow"
    else:
        what = f"broke the connection ({type(error).__name__})"
    return proxy_error(what, proxy, TransferError)


def _unreached(error: Exception) -> str:
    """Why no connection was made, after "the server" or "the proxy"."""
    import urllib3

    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "has a name that is not known"
    if isinstance(error.__cause__, ConnectionRefusedError):
        return "refuses the connection"
    return "cannot be reached"


def redact(url: str) -> str:
    """An address for an error: without its query, which may be a signature that opens doors."""
    return url.partition("?")[0][:300]
