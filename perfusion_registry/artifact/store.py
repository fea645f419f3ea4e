"""The store: artifacts by the SHA-256 of their bytes, builds by their recipe digest, on this machine.

    artifacts/<aa>/<sha256>.safetensors    the bytes
    builds/<aa>/<recipe digest>            the sha256 that this recipe built
    sheets/<aa>/<sha256>.jpg               what the artifact of these bytes draws, on one small sheet
    work/<training key>/                   checkpoints of an unfinished build
    durations/<kind of build>              how long the latest one took (`durations`)
    locks/<training key>.lock              held by the kernel while a process builds

Renames make every write atomic; the locks only save work. Hashes are checked on every read. An artifact's
time of modification is that of its last use, by the hour: `pruning` removes the longest unused first.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.errors import PerfError
from perfusion_registry.file_lock import file_lock
from perfusion_registry.recipe.writing import make_folder, read_error, replace_bytes, write_error
from perfusion_registry.reporter import Reporter, Silent

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_USED_EVERY = 3600.0  # seconds between marks of use
_ELSEWHERE = f"free some space, or set {CACHE_VARIABLE} to a folder that can be written"
_READABLE = f"let its owner make the store readable for you, or set {CACHE_VARIABLE} to a store of your own"


class Store:
    """Content-addressed artifacts below `root`; the folder is made when something is first written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Where the artifact with these bytes is, or would be."""
        return self.root / "artifacts" / _hex(sha256)[:2] / f"{sha256}.safetensors"

    def put(self, data: bytes) -> str:
        """Keep these bytes; returns their SHA-256. A damaged copy already there is replaced."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.has(sha256):
            self._write(self.path(sha256), data)
        return sha256

    def has(self, sha256: str) -> bool:
        """Whether the store has the artifact, whole."""
        path = self.path(sha256)
        try:
            whole = hashlib.sha256(path.read_bytes()).hexdigest() == sha256
        except FileNotFoundError:
            return False
        except OSError as error:
            raise read_error(error, path, _READABLE) from error
        if whole:
            _mark_used(path)
        return whole

    def get(self, sha256: str) -> bytes:
        """The bytes of an artifact; raises PerfError when they are missing or not what their hash says."""
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise PerfError(
                f"the store has no artifact {sha256[:12]}", where=str(path), hint="run `perf build`"
            ) from error
        except OSError as error:
            raise read_error(error, path, _READABLE) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise PerfError(
                "the artifact in the store is damaged: its bytes do not match its hash",
                where=str(path),
                hint="run `perf build`, which builds it again, or `perf sync` if it was fetched",
            )
        _mark_used(path)
        return data

    def sheet_path(self, sha256: str) -> Path:
        """Where the sheet of the artifact with these bytes is, if one was drawn on this machine."""
        return self.root / "sheets" / _hex(sha256)[:2] / f"{sha256}.jpg"

    def put_sheet(self, sha256: str, data: bytes) -> Path:
        """Keep the sheet of an artifact; returns where it is."""
        path = self.sheet_path(sha256)
        self._write(path, data)
        return path

    def record(self, digest: str, sha256: str) -> None:
        """Remember that the inputs of `digest` built the artifact `sha256`."""
        self._write(self._record(digest), f"{_hex(sha256)}\n".encode())

    def lookup(self, digest: str) -> str | None:
        """The SHA-256 of the whole artifact that `digest` built, or None."""
        try:
            sha256 = self._record(digest).read_bytes()[:200].decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise read_error(error, self._record(digest), _READABLE) from error
        return sha256 if _HEX.match(sha256) and self.has(sha256) else None

    def workspace(self, digest: str) -> Path:
        """The folder for checkpoints of the build of `digest`; it outlives the process."""
        folder = self.root / "work" / _hex(digest)
        make_folder(folder, hint=_ELSEWHERE)
        return folder

    def begun(self, digest: str) -> Path:
        """Where checkpoints of the build of `digest` are, or would be; nothing is made."""
        return self.root / "work" / _hex(digest)

    def discard_workspace(self, digest: str) -> None:
        """Forget the checkpoints of `digest`."""
        shutil.rmtree(self.root / "work" / _hex(digest), ignore_errors=True)

    @contextmanager
    def building(
        self, digest: str, name: str, reporter: Reporter | None = None, *, doing: str = "building"
    ) -> Iterator[None]:
        """Hold the build (or other `doing`) of `digest` for this process, waiting while another has it. name:
        what it is called here; a project that asks for the same may call it otherwise.

        The kernel holds the lock, so a process that dies, however it dies, lets go of it. Look the digest up
        again inside: the other process may have finished the work.
        """
        path = self.root / "locks" / f"{_hex(digest)}.lock"
        make_folder(path.parent, hint=_ELSEWHERE)

        def warn() -> None:
            (reporter or Silent()).warn(
                f"another process is {doing} the same as `{name}`, in this project or another; "
                f"waiting for it ({path}). "
                f"Ctrl-C stops waiting; {CACHE_VARIABLE} chooses another store."
            )

        with ExitStack() as held:
            try:
                held.enter_context(file_lock(path, poll=0.2, wait=warn))
            except OSError as error:
                raise write_error(error, path, _ELSEWHERE) from error
            yield

    def _record(self, digest: str) -> Path:
        return self.root / "builds" / _hex(digest)[:2] / digest

    def _write(self, path: Path, data: bytes) -> None:
        make_folder(path.parent, hint=_ELSEWHERE)
        replace_bytes(path, data, hint=_ELSEWHERE)


def _mark_used(path: Path) -> None:
    with suppress(OSError):  # a store that cannot be written cannot be pruned either
        if time.time() - path.stat().st_mtime > _USED_EVERY:
            os.utime(path)


def _hex(digest: str) -> str:
    """Refuse what is not a SHA-256 in hex, so that no digest from a file can name another path."""
    if not _HEX.match(digest):
        raise PerfError(f"`{digest[:80]}` is not a SHA-256 digest")
    return digest
