"""A registry in a folder: on a disk, on a network share, or made by `perf vendor`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from perfusion_registry.cache_folder import expand_user
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import SETTLE, FileStamp
from perfusion_registry.file_lock import file_lock
from perfusion_registry.recipe.writing import create_bytes, make_folder, replace_bytes, write_error
from perfusion_registry.registries.bucket import NotModified, StoredObject
from perfusion_registry.registries.registry import Backend, Registry, RegistryError, TransferError
from perfusion_registry.registries.sparse import SparseRegistry

_PIECE = 256 * 2**10
_LOCK_NAME = ".lock"
_PATIENCE = 60.0  # seconds to wait for another publisher, who needs milliseconds
_DIGEST = 64  # letters of a SHA-256
_LEFT_OVER = 3600.0  # seconds after which the half-written file of a killed publisher goes
_ELSEWHERE = "check the folder's permissions and its free space"


class FolderBucket:
    """The bucket in the folder `root`; `url` is how the user named it.

    New objects appear by a hard link and changed ones by a rename, so a part of one is never seen. Replacing
    holds a kernel lock, which ends with its process, however that ends. An object's tag is the SHA-256 of its
    bytes and, once the file has rested for `settle` seconds, its fingerprint: a file whose fingerprint is the
    same was not changed, and is not read again.
    """

    def __init__(self, root: Path, *, url: str, settle: float = SETTLE) -> None:
        self.root = root
        self._url = url
        self._settle = settle

    @property
    def url(self) -> str:
        """The folder as the user named it."""
        return self._url

    @property
    def identity(self) -> str:
        """The folder's absolute path."""
        return str(self.root.resolve())

    def get(self, key: str, *, limit: int, known_tag: str | None = None) -> StoredObject | NotModified | None:
        """The object and its tag."""
        before = _fingerprint(f"{self.root}/{key}", self._settle)
        if known_tag is not None and before and known_tag.endswith(before):
            return NotModified()
        pieces = self.stream(key, limit=limit)
        if pieces is None:
            return None
        data = b"".join(pieces)
        after = _fingerprint(f"{self.root}/{key}", self._settle)
        tag = hashlib.sha256(data).hexdigest() + (after if after == before else "")
        return NotModified() if tag == known_tag else StoredObject(data, tag)

    def stream(self, key: str, *, limit: int) -> Iterator[bytes] | None:
        """The object in pieces."""
        path = self._path(key)
        try:
            # Does not wait for the other end of a pipe, should there be one.
            descriptor = os.open(
                path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        return self._pieces(path, descriptor, limit)

    def check_writable(self) -> None:
        """Do nothing: whether a folder can be written shows when it is written."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a new object by linking a finished file to its name."""
        path = self._path(key)
        with _registry_errors():
            make_folder(path.parent, hint=_ELSEWHERE)
            self._sweep(path.parent)
            return create_bytes(path, data, hint=_ELSEWHERE)

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        """Write over the object if its bytes still have the SHA-256 in `tag`."""
        path = self._path(key)
        with _registry_errors(), self._locked():
            try:
                current = path.read_bytes()
            except OSError as error:
                raise _unreadable(path, error) from error
            if hashlib.sha256(current).hexdigest() != tag[:_DIGEST]:
                return False
            replace_bytes(path, data, hint=_ELSEWHERE)
        return True

    def _path(self, key: str) -> Path:
        return Path(f"{self.root}/{key}")

    @staticmethod
    def _pieces(path: Path, descriptor: int, limit: int) -> Iterator[bytes]:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            os.close(descriptor)
            raise RegistryError("the registry has something here that is not a file", where=str(path))
        with open(descriptor, "rb") as file:
            if about.st_size > limit:
                raise RegistryError(
                    f"the file has {about.st_size:,} bytes where at most {limit:,} belong", where=str(path)
                )
            left = limit
            while True:
                try:
                    piece = file.read(min(_PIECE, left + 1))
                except OSError as error:
                    raise _unreadable(path, error) from error
                if not piece:
                    return
                left -= len(piece)
                if left < 0:
                    raise TransferError(f"the file grew past {limit:,} bytes", where=str(path))
                yield piece

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the registry's one lock."""
        path = self.root / _LOCK_NAME
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(file_lock(path, timeout=_PATIENCE, poll=0.005))
            except TimeoutError as error:
                raise RegistryError(
                    f"another process has held the registry for {_PATIENCE:.0f} seconds",
                    where=str(path),
                    hint="see whether a `perf publish` hangs or is stopped",
                ) from error
            except OSError as error:
                raise _unwritable(path, error) from error
            yield

    @staticmethod
    def _sweep(folder: Path) -> None:
        """Delete what publishers that were killed left half-written."""
        with contextlib.suppress(OSError):
            for path in folder.glob(".*.tmp"):
                if time.time() - path.stat().st_mtime > _LEFT_OVER:
                    path.unlink()


def _fingerprint(path: str, settle: float) -> str:
    """What the file system says of a file that has rested; "" for every other."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    stamp = FileStamp.from_status(status)
    if not stat.S_ISREG(status.st_mode) or not stamp.has_rested(settle):
        return ""
    return f":{stamp.inode:x}:{stamp.size:x}:{stamp.mtime_ns:x}:{stamp.ctime_ns:x}"


def open_folder(url: str, *, name: str, root: Path, cache: Path) -> Registry:
    """The registry in a folder: a path, relative to `root`, or `file:///folder`."""
    folder = root / (_file_path(url) if url.lower().startswith("file:") else expand_user(url))
    return SparseRegistry(FolderBucket(folder, url=url), cache=cache, name=name)


BACKEND = Backend(open_folder, local=True)


def _file_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise RegistryError(
            "a file:// address names a folder of this machine", where=url, hint="file:///folder"
        )
    return Path(url2pathname(parts.path))


@contextmanager
def _registry_errors() -> Iterator[None]:
    """Within this context, errors of writing become errors of the registry."""
    try:
        yield
    except RegistryError:
        raise
    except PerfError as error:
        raise RegistryError(error.what, where=error.where, hint=error.hint) from error


def _unreadable(path: Path, error: OSError) -> RegistryError:
    return RegistryError(f"the registry cannot be read: {error.strerror or error}", where=str(path))


def _unwritable(path: Path, error: OSError) -> RegistryError:
    failure = write_error(error, path, _ELSEWHERE)
    return RegistryError(failure.what, where=failure.where, hint=failure.hint)
