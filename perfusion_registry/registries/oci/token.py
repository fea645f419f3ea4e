"""Proving who we are to an OCI registry: basic authentication, and tokens from the realm that it names.

A registry answers 401 with a challenge. `Basic` gets the user name and password. `Bearer` names a realm, a
token endpoint, often on another host; the endpoint may see the login of this registry only where the
registry's word can be trusted: it is the registry's own origin, or both are reached over HTTPS (whoever can
name the realm there could as well have asked for the password), or both are this machine. Where none holds, a
login stays home and the request fails; without a login an anonymous token is asked for. Tokens go to the
registry alone.
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
    """The registry does not let us, as far as we can prove who we are."""


class _Token(BaseModel):
    model_config = ConfigDict(extra="ignore")
    token: Annotated[str | None, Field(max_length=2**16)] = None
    access_token: Annotated[str | None, Field(max_length=2**16)] = None
    expires_in: Annotated[int | None, Field(ge=0, le=10**9)] = None


class Authority:
    """What may be proved to the registry at `origin`: its login, and the tokens that the login was given."""

    def __init__(self, origin: Origin, login: Login | None, fetch: Fetch) -> None:
        self._origin = origin
        self._login = login
        self._fetch = fetch
        self._lock = threading.Lock()
        self._basic = False
        self._tokens: dict[str, tuple[str, float]] = {}

    def proof(self, scope: str) -> str | None:
        """The Authorization that earlier challenges showed to be wanted; None before the first."""
        if self._basic:
            return self._basic_proof()
        token, until = self._tokens.get(scope, ("", 0.0))
        return f"Bearer {token}" if time.monotonic() < until else None

    def answer(self, challenges: Sequence[str], scope: str, *, tried: str | None) -> str:
        """The Authorization that answers a 401 to `tried`; RegistryError when there is none to give."""
        with self._lock:
            current = self.proof(scope)
            if current is not None and current != tried:
                return current  # another thread was here first
            offered = dict(reversed(parse_challenges(challenges)))
            if "realm" in offered.get("bearer", {}):
                token, life = self._token(offered["bearer"], scope)
                self._tokens[scope] = (token, time.monotonic() + max(life, _SHORTEST_LIFE) - _MARGIN)
                return f"Bearer {token}"
            if "basic" not in offered:
                raise RegistryError(
                    "the registry wants a way of proving who we are that perf does not know",
                    where=str(self._origin),
                )
            if self._login is None or tried is not None:
                raise self.refused()
            self._basic = True
            return self._basic_proof()

    def _basic_proof(self) -> str:
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
                    f"the registry sends perf to {home} for a token, which must not see its password",
                    where=str(self._origin),
                    hint="reach the registry over HTTPS",
                )
            headers["Authorization"] = self._basic_proof()
        scopes = dict.fromkeys([scope, challenge.get("scope", scope)])
        query = [("service", challenge["service"])] if "service" in challenge else []
        query += [("scope", each) for each in scopes]
        joint = "&" if urlsplit(realm).query else "?"
        status, data = self._fetch(f"{realm}{joint}{urlencode(query)}", headers)
        if status in (400, 401, 403, 404):
            raise self.refused(str(home))
        if is_passing(status):
            raise TransferError(
                f"the registry's token endpoint answers {status}", where=str(home), hint="try again later"
            )
        try:
            found = _Token.model_validate_json(data)
        except ValidationError:
            found = _Token()
        token = found.token or found.access_token
        if status != 200 or not token or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise RegistryError(
                f"the registry's token endpoint gives no token (it answers {status})",
                where=str(home),
                hint="try again later",
            )
        return token, found.expires_in or _SHORTEST_LIFE

    def _trusted(self, home: Origin) -> bool:
        """Whether the realm's host may see the registry's login."""
        return home == self._origin or self._near(home) or self._origin.scheme == home.scheme == "https"

    def _near(self, home: Origin) -> bool:
        """Whether the registry and the realm are both this machine."""
        return self._origin.loopback and home.loopback

    def refused(self, where: str | None = None) -> DeniedError:
        """The error for a registry, or the realm at `where`, that accepts nothing that we can prove."""
        if self._login is None:
            return DeniedError(
                "the registry wants to know who you are",
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
    found: list[tuple[str, dict[str, str]]] = []
    for value in values:
        if re.fullmatch(r"\s*[A-Za-z]+\s*", value):
            found.append((value.strip().lower(), {}))
            continue
        current: dict[str, str] | None = None
        for part in _PART.finditer(value[:_LONGEST_CHALLENGE]):
            if part["scheme"]:
                current = {}
                found.append((part["scheme"].lower(), current))
            elif current is not None:
                quoted = part["quoted"]
                text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else part["plain"]
                current.setdefault(part["key"].lower(), text)
    return found
