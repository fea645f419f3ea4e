"""Authorization at an OCI registry: basic authentication, and tokens from the realm that it names.

A registry answers 401 with a challenge. `Basic` gets the user name and password. `Bearer` names a realm, a
token endpoint, often on another host. The endpoint is sent the login of this registry only where that is
safe: it is the registry's own origin, or both are reached over HTTPS (a server that can name the realm there
could as well have asked for the password itself), or both are this machine. Elsewhere the login is not sent
and the request fails; without a login an anonymous token is requested. Tokens go to the registry alone.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perfusion_registry.registries.registry import RegistryError, TransferError
from perfusion_registry.registries.transport import Origin, is_passing, origin_of

Login = tuple[str, str]
"""A user name and a password."""

Fetch = Callable[[str, dict[str, str]], tuple[int, bytes]]
"""GET a URL with headers, following no redirect: the status and the bounded body."""

_PART = re.compile(
    r'(?P<scheme>[A-Za-z]+)(?=\s+[A-Za-z_]+\s*=)|(?P<key>[A-Za-z_]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))'
)
_LONGEST_CHALLENGE = 8192
_SHORTEST_LIFE = 60
_MARGIN = 10


class DeniedError(RegistryError):
    """The registry refuses, with the credentials that there are."""


class _Token(BaseModel):
    model_config = ConfigDict(extra="ignore")
    token: Annotated[str | None, Field(max_length=2**16)] = None
    access_token: Annotated[str | None, Field(max_length=2**16)] = None
    expires_in: Annotated[int | None, Field(ge=0, le=10**9)] = None


class Authenticator:
    """What authorizes requests to the registry at `origin`: its login, and the tokens that it was given."""

    def __init__(self, origin: Origin, login: Login | None, fetch: Fetch) -> None:
        self._origin = origin
        self._login = login
        self._fetch = fetch
        self._lock = threading.Lock()
        self._basic = False
        self._tokens: dict[str, tuple[str, float]] = {}

    def authorization(self, scope: str) -> str | None:
        """The Authorization header that earlier challenges asked for; None before the first."""
        if self._basic:
            return self._basic_header()
        token, until = self._tokens.get(scope, ("", 0.0))
        return f"Bearer {token}" if time.monotonic() < until else None

    def answer(self, challenges: Sequence[str], scope: str, *, tried: str | None) -> str:
        """The Authorization header that answers a 401 to `tried`; RegistryError when there is none."""
        with self._lock:
            current = self.authorization(scope)
            if current is not None and current != tried:
                return current  # another thread was here first
            offered = dict(reversed(parse_challenges(challenges)))
            if "realm" in offered.get("bearer", {}):
                token, life = self._token(offered["bearer"], scope)
                self._tokens[scope] = (token, time.monotonic() + max(life, _SHORTEST_LIFE) - _MARGIN)
                return f"Bearer {token}"
            if "basic" not in offered:
                raise RegistryError(
                    "the registry asks for a kind of authentication that perf does not know",
                    where=str(self._origin),
                )
            if self._login is None or tried is not None:
                raise self.refusal()
            self._basic = True
            return self._basic_header()

    def _basic_header(self) -> str:
        assert self._login is not None
        return "Basic " + base64.b64encode(":".join(self._login).encode()).decode()

    def _token(self, challenge: dict[str, str], scope: str) -> tuple[str, int]:
        """A token from the challenge's realm, and how many seconds it lives."""
        realm = challenge["realm"]
        home = origin_of(realm)
        if home is None or not (home.scheme == "https" or home == self._origin or self._near(home)):
            raise RegistryError(
                f"the registry sends perf to {realm[:100]} for a token; perf fetches tokens over HTTPS only",
                where=str(self._origin),
            )
        headers = {}
        if self._login is not None:
            if not self._trusted(home):
                raise RegistryError(
                    f"the registry sends perf to {home} for a token, which must not be sent its password",
                    where=str(self._origin),
                    hint="reach the registry over HTTPS",
                )
            headers["Authorization"] = self._basic_header()
        scopes = dict.fromkeys([scope, challenge.get("scope", scope)])
        query = [("service", challenge["service"])] if "service" in challenge else []
        query += [("scope", each) for each in scopes]
        joint = "&" if urlsplit(realm).query else "?"
        status, data = self._fetch(f"{realm}{joint}{urlencode(query)}", headers)
        if status in (400, 401, 403, 404):
            raise self.refusal(str(home))
        if is_passing(status):
            raise TransferError(
                f"the registry's token endpoint answers {status}", where=str(home), hint="try again later"
            )
        try:
            answer = _Token.model_validate_json(data)
        except ValidationError:
            answer = _Token()
        token = answer.token or answer.access_token
        if status != 200 or not token or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise RegistryError(
                f"the registry's token endpoint gives no token (it answers {status})",
                where=str(home),
                hint="try again later",
            )
        return token, answer.expires_in or _SHORTEST_LIFE

    def _trusted(self, home: Origin) -> bool:
        """Whether the realm's host may be sent the registry's login."""
        return home == self._origin or self._near(home) or self._origin.scheme == home.scheme == "https"

    def _near(self, home: Origin) -> bool:
        """Whether the registry and the realm are both this machine."""
        return self._origin.loopback and home.loopback

    def refusal(self, where: str | None = None) -> DeniedError:
        """The error for a registry, or the realm at `where`, that refuses what there is."""
        if self._login is None:
            return DeniedError(
                "the registry asks for a login",
                where=where or str(self._origin),
                hint="set PERF_REGISTRY_<NAME>_USERNAME and _PASSWORD, or add the host to netrc",
            )
        return DeniedError(
            "the registry does not accept the credentials for this",
            where=where or str(self._origin),
            hint="check PERF_REGISTRY_<NAME>_USERNAME and _PASSWORD or netrc, and what they may do",
        )


def parse_challenges(values: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The schemes (lowercase) and parameters of WWW-Authenticate headers; what cannot be read is left out."""
    challenges: list[tuple[str, dict[str, str]]] = []
    for value in values:
        if re.fullmatch(r"\s*[A-Za-z]+\s*", value):
            challenges.append((value.strip().lower(), {}))
            continue
        current: dict[str, str] | None = None
        for part in _PART.finditer(value[:_LONGEST_CHALLENGE]):
            if part["scheme"]:
                current = {}
                challenges.append((part["scheme"].lower(), current))
            elif current is not None:
                quoted = part["quoted"]
                text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else part["plain"]
                current.setdefault(part["key"].lower(), text)
    return challenges
