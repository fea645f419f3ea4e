"""The proxy that the environment names for an address."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from perfusion_registry.registries.credentials import is_loopback
from perfusion_registry.registries.registry import RegistryError

PORTS = {"http": 80, "https": 443}
"""The schemes of HTTP, and their own ports."""


@dataclass(frozen=True)
class Proxy:
    """A proxy of HTTP. url: its scheme, host and port. login: `user:password` to send to it, "" for none."""

    url: str
    login: str

    @property
    def headers(self) -> dict[str, str]:
        """What is sent to the proxy, and to nobody else."""
        import urllib3

        return dict(urllib3.make_headers(proxy_basic_auth=self.login)) if self.login else {}


def proxy_for(url: str) -> Proxy | None:
    """The proxy for a URL by `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case.

    None for this machine itself and where none is named. An address without a scheme is of `http`, as for
    curl. Raises RegistryError for one that perf cannot use; it never repeats a password.
    """
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    parts = urlsplit(url)
    proxies: dict[str, str] = getproxies_environment()
    if is_loopback(parts.hostname) or proxy_bypass_environment(parts.netloc.rpartition("@")[2], proxies):
        return None
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    given = proxies.get(kind, "").strip()
    return _parsed(given, f"{kind.upper()}_PROXY") if given else None


def proxy_error(
    what: str,
    proxy: Proxy | None,
    kind: type[RegistryError] = RegistryError,
    hint: str = "check HTTPS_PROXY and HTTP_PROXY, or name the server in NO_PROXY",
) -> RegistryError:
    """The error for a proxy that does not do its work. what: in words that follow "the proxy"."""
    return kind(f"the proxy {what}", where=proxy.url if proxy else None, hint=hint)


def login_error(proxy: Proxy | None) -> RegistryError:
    """The error for a proxy that answers 407."""
    sent = proxy is not None and proxy.login
    what = f"{'does not accept the login in its address' if sent else 'asks for a login'} (407)"
    return proxy_error(what, proxy, hint="set HTTPS_PROXY and HTTP_PROXY to http://user:password@host:port")


def _parsed(given: str, variable: str) -> Proxy:
    hint = f"set {variable} to http://host:port, or to http://user:password@host:port"
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or not given.isprintable():
        raise RegistryError("the proxy's address cannot be understood", where=variable, hint=hint)
    if parts.scheme not in PORTS:
        what = f"proxies of the kind `{parts.scheme}` are not supported"
        raise RegistryError(what, where=variable, hint=hint)
    shown = f"[{host}]" if ":" in host else host
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return Proxy(f"{parts.scheme}://{shown}:{port or PORTS[parts.scheme]}", "" if login == ":" else login)
