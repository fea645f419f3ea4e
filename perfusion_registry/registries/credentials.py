"""Credentials for registries: from the environment or netrc, never from files that are shared."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from perfusion_registry.registries.registry import RegistryError


@dataclass(frozen=True)
class Credentials:
    """A token, or a user name and a password; no error and no repr shows them.

    source: where they come from, in words.
    """

    token: str | None = field(default=None, repr=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    source: str = "the environment"

    def authorization(self) -> str:
        """The value of an HTTP `Authorization` header."""
        if self.token is not None:
            return f"Bearer {self.token}"
        pair = f"{self.username or ''}:{self.password or ''}"
        return "Basic " + base64.b64encode(pair.encode()).decode()


def variable(name: str, what: str) -> str:
    """The environment variable for one credential of the registry that a manifest calls `name`."""
    return f"PERF_REGISTRY_{re.sub('[^A-Z0-9]', '_', name.upper())}_{what}"


def credentials_for(name: str, url: str) -> Credentials | None:
    """The credentials for the registry `name` at `url`, or None.

    `PERF_REGISTRY_<NAME>_TOKEN`, or `_USERNAME` and `_PASSWORD`; else the entry of the url's host in netrc
    (the file that `NETRC` names, or `~/.netrc`), whose `default` entry is left alone. Raises RegistryError
    for half of a pair, for what cannot be sent, and for credentials over another machine's plain `http`.
    """
    token, username, password = (os.environ.get(variable(name, what)) for what in _PARTS)
    if token or username or password:
        if token and (username or password):
            raise RegistryError(
                f"both {variable(name, 'TOKEN')} and {variable(name, 'USERNAME')} or _PASSWORD are set",
                hint="set the token, or the user name and the password",
            )
        if not token and not (username and password):
            missing = variable(name, "PASSWORD" if username else "USERNAME")
            raise RegistryError(f"half of the credentials for `{name}` are missing", hint=f"set {missing}")
        if _exposed(url):
            raise RegistryError(
                f"the credentials for `{name}` would travel in the open, over http",
                where=url,
                hint="use https",
            )
        return _sendable(Credentials(token or None, username or None, password or None), name)
    return mirror_credentials(url)


def mirror_credentials(url: str) -> Credentials | None:
    """The credentials that netrc has for the host of `url`: a registry's own are not for its mirrors."""
    return None if _exposed(url) else _from_netrc(urlsplit(url).hostname)


def refuse_credentials(url: str) -> None:
    """Raise RegistryError, without repeating them, for a url that has credentials in it."""
    authority = re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://([^/?#]*)", url)
    if authority and "@" in authority[1]:
        redacted = url.replace(authority[1], authority[1].rpartition("@")[2], 1)
        raise RegistryError(
            "the registry's address has credentials in it, and it goes into files that are shared",
            where=redacted,
            hint="take them out of the address and set PERF_REGISTRY_<NAME>_TOKEN, or _USERNAME and "
            "_PASSWORD, or use ~/.netrc; if the address was ever committed, change the password too",
        )


def is_loopback(host: str | None) -> bool:
    """Whether the host is this machine itself."""
    if host is None or host.lower() == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_PARTS = ("TOKEN", "USERNAME", "PASSWORD")


def _exposed(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname)


def _from_netrc(host: str | None) -> Credentials | None:
    import netrc

    path = Path(os.path.expanduser(os.environ.get("NETRC") or "~/.netrc"))  # of a user without a home: none
    if host is None or not path.is_file():
        return None
    try:
        entry = netrc.netrc(path).hosts.get(host)
    except netrc.NetrcParseError as error:
        # Its message may quote a password.
        raise RegistryError("netrc cannot be understood", where=f"{path}:{error.lineno}") from None
    except (OSError, UnicodeDecodeError):
        raise RegistryError("netrc cannot be read", where=str(path), hint="check its permissions") from None
    if entry is None or not entry[2]:
        return None
    return _sendable(Credentials(username=entry[0], password=entry[2], source=f"netrc ({path})"), host)


def _sendable(credentials: Credentials, name: str) -> Credentials:
    token = credentials.token or ""
    pair = (credentials.username or "") + (credentials.password or "")
    if not token.isascii() or not (token + pair).isprintable() or " " in token:
        raise RegistryError(
            f"the credentials for `{name}` have characters that cannot be sent",
            hint="look for a line break or a space that was copied along",
        )
    return credentials
