"""A registry in a bucket of S3, or of a compatible store that has conditional puts."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from perfusion_registry.extras import lacking
from perfusion_registry.registries.bucket import NotModified, StoredObject
from perfusion_registry.registries.credentials import variable
from perfusion_registry.registries.memory import identity
from perfusion_registry.registries.registry import Backend, Registry, RegistryError, TransferError
from perfusion_registry.registries.sparse import SparseRegistry

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Store

_OPENING = threading.Lock()
"""Held while the library is imported: to several threads at once it appears half-initialised."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
# Without one of these the client would ask the cloud's metadata service; perf reads anonymously instead.
_IDENTITIES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_RETRIES = 5
_PATIENCE = timedelta(seconds=60)


class S3Bucket:
    """The bucket at `s3://bucket/prefix?endpoint=https://host&region=name`; the query may be left out.

    The endpoint and the region come from the query, else from `AWS_ENDPOINT_URL` and `AWS_REGION`.
    Credentials come from the environment alone: `PERF_REGISTRY_<NAME>_USERNAME` and `_PASSWORD` (the access
    key and its secret), else the variables of AWS; without any the bucket is read anonymously. An object's
    tag is its ETag.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._store: S3Store | None = None
        self._bucket, self._prefix, self._query = _parsed(url)

    @property
    def url(self) -> str:
        """The address as the user named it."""
        return self._url

    @property
    def identity(self) -> str:
        """The address."""
        return identity(self._url)

    def get(self, key: str, *, limit: int, known_tag: str | None = None) -> StoredObject | NotModified | None:
        """The object and its ETag."""
        store = self._opened()
        from obstore.exceptions import NotModifiedError

        with self._errors(key):
            try:
                result = store.get(key, options={"if_none_match": known_tag} if known_tag else None)
            except FileNotFoundError:
                return None
            except NotModifiedError:
                return NotModified()
            size, tag = result.meta["size"], result.meta["e_tag"]
            self._bounded(key, size, limit)
            pieces: list[bytes] = []
            had = 0
            for piece in result.stream():
                had += len(piece)
                self._bounded(key, had, limit)
                pieces.append(bytes(piece))
        if had != size:
            raise TransferError("the store's answer breaks off", where=self._where(key))
        return StoredObject(b"".join(pieces), tag or "")

    def stream(self, key: str, *, limit: int) -> Iterator[bytes] | None:
        """The object in pieces."""
        store = self._opened()
        with self._errors(key):
            try:
                result = store.get(key)
            except FileNotFoundError:
                return None

        def pieces() -> Iterator[bytes]:
            had = 0
            with self._errors(key):
                for piece in result.stream(min_chunk_size=256 * 2**10):
                    had += len(piece)
                    self._bounded(key, had, limit)
                    yield bytes(piece)

        return pieces()

    def check_writable(self) -> None:
        """Raise RegistryError where there are no credentials to write with."""
        if self._anonymous():
            raise RegistryError(
                "there are no credentials to write to this bucket with",
                where=self._url,
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                f"{variable(self._name, 'USERNAME')} and {variable(self._name, 'PASSWORD')}",
            )

    def create(self, key: str, data: bytes) -> bool:
        """Write a new object: `If-None-Match: *`."""
        store = self._opened()
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._errors(key):
            try:
                store.put(key, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        """Write over the object with this ETag: `If-Match`."""
        store = self._opened()
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        if not tag:
            raise RegistryError(
                "the store gives no ETags, so of two publishers both could win", where=self._where(key)
            )
        with self._errors(key):
            try:
                store.put(key, data, mode={"e_tag": tag}, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def _opened(self) -> S3Store:
        """The store's client, made at its first use."""
        if self._store is None:
            with _OPENING:
                self._store = self._store or self._open()
        return self._store

    def _open(self) -> S3Store:
        try:
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ImportError as error:
            lack = lacking(error, "for registries in S3")
            raise RegistryError(lack.what, where=self._url, hint=lack.hint) if lack else error from error
        endpoint = self._query.get("endpoint") or _first(_ENDPOINTS)
        config: S3Config = {"region": self._query.get("region") or _first(_REGIONS) or "us-east-1"}
        client: ClientConfig = {"timeout": "30s", "connect_timeout": "10s"}
        if endpoint:
            config["endpoint"] = endpoint
            client["allow_http"] = endpoint.startswith("http://")
        own = os.environ.get(variable(self._name, "USERNAME"))
        secret = os.environ.get(variable(self._name, "PASSWORD"))
        if own and secret:
            config["access_key_id"], config["secret_access_key"] = own, secret
        elif self._anonymous():
            config["skip_signature"] = True
        with self._errors(""):
            try:
                return S3Store(
                    self._bucket,
                    prefix=self._prefix or None,
                    config=config,
                    client_options=client,
                    retry_config={"max_retries": _RETRIES, "retry_timeout": _PATIENCE},
                )
            except (BaseError, ValueError) as error:
                raise RegistryError(
                    f"the bucket cannot be opened: {_short(error)}",
                    where=self._url,
                    hint="check the address and the AWS_* variables",
                ) from error

    def _anonymous(self) -> bool:
        own = os.environ.get(variable(self._name, "USERNAME")) and os.environ.get(
            variable(self._name, "PASSWORD")
        )
        return not own and _first(_IDENTITIES) is None

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Within this context, errors of the client become errors of the registry."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise RegistryError(
                "the store refuses access",
                where=self._where(key),
                hint="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what the key may do; perf reads no "
                "AWS profiles and asks no metadata service",
            ) from error
        except FileNotFoundError as error:
            raise RegistryError("there is no such bucket", where=self._url, hint="check its name") from error
        except (BaseError, OSError) as error:
            raise TransferError(
                f"the store cannot be used: {_short(error)}",
                where=self._where(key),
                hint="check the address, AWS_ENDPOINT_URL and the network, then try again",
            ) from error

    def _bounded(self, key: str, size: int, limit: int) -> None:
        if size > limit:
            raise TransferError(
                f"the store has {size:,} bytes where at most {limit:,} belong", where=self._where(key)
            )

    def _where(self, key: str) -> str:
        return f"{self._url.partition('?')[0].rstrip('/')}/{key}"


def open_s3(url: str, *, name: str, root: Path, cache: Path) -> Registry:
    """The registry in the bucket at `url`."""
    return SparseRegistry(S3Bucket(url, name=name), cache=cache, name=name)


BACKEND = Backend(open_s3)


def _parsed(url: str) -> tuple[str, str, dict[str, str]]:
    """Bucket, prefix and query of an address; raises RegistryError for one that is not a bucket's."""
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        endpoint = urlsplit(query.get("endpoint", "https://s3"))
    except ValueError as error:
        raise RegistryError("this is not an address of a bucket", where=url, hint=_EXAMPLE) from error
    segments = [segment for segment in parts.path.split("/") if segment]
    if (
        not _BUCKET.match(parts.netloc)
        or parts.fragment
        or any(segment in (".", "..") for segment in segments)
        or endpoint.scheme not in ("http", "https")
        or not endpoint.hostname
        or "@" in endpoint.netloc
        or endpoint.query
    ):
        raise RegistryError("this is not an address of a bucket", where=url, hint=_EXAMPLE)
    unknown = sorted(query.keys() - {"endpoint", "region"})
    if unknown:
        raise RegistryError(
            f"`{unknown[0]}` has no place in a bucket's address; keys and tokens go into the environment",
            where=url.partition("?")[0],
            hint=_EXAMPLE,
        )
    return parts.netloc, "/".join(segments), query


_EXAMPLE = "write `s3://bucket/folder`, or `s3://bucket/folder?endpoint=https://host&region=name`"


def _first(variables: tuple[str, ...]) -> str | None:
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)


def _short(error: Exception) -> str:
    """The first line of the client's message, which has many."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
