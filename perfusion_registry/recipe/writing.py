"""Writing a file whole or not at all."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from perfusion_registry.errors import PerfError


def replace_bytes(path: Path, data: bytes, *, hint: str | None = None) -> None:
    """Write `data` beside `path`, make it durable, and rename it over `path`.

    A crash at any point leaves the old file or the new one. Raises PerfError, with `hint`, when the disk is
    full or the folder cannot be written.
    """
    try:
        with _beside(path, data) as temporary:
            os.replace(temporary, path)
            _sync_folder(path.parent)
    except OSError as error:
        raise write_error(error, path, hint) from error


def create_bytes(path: Path, data: bytes, *, hint: str | None = None) -> bool:
    """Write a new file as `replace_bytes` does; False, and nothing changes, where there is one already.

    Of several that create one file at the same time, one succeeds. (On a file system without hard links two
    may, and the last one's bytes stay.)
    """
    try:
        with _beside(path, data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:
                if path.exists():
                    return False
                os.replace(temporary, path)
            _sync_folder(path.parent)
    except OSError as error:
        raise write_error(error, path, hint) from error
    return True


def replace_text(path: Path, text: str, *, as_it_was: bool = False) -> bool:
    """Write UTF-8 text, unless the file holds it already; whether it was written.

    Line ends are LF. as_it_was: or those of the file that a person wrote and this is an edit of, with its
    byte order mark if it has one.
    """
    data = text.encode()
    with contextlib.suppress(OSError):
        there = path.read_bytes()
        if as_it_was and b"\r\n" in there:
            data = data.replace(b"\n", b"\r\n")
        if as_it_was and there.startswith(codecs.BOM_UTF8):
            data = codecs.BOM_UTF8 + data
        if there == data:
            return False
    replace_bytes(path, data)
    return True


def make_folder(folder: Path, *, hint: str | None = None) -> None:
    """Make a folder and its parents; raises PerfError when that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, folder, hint) from error


def require_writable(path: Path, hint: str | None = None) -> None:
    """Raise PerfError, before long work, where a file cannot be written at `path`: neither it nor a folder
    that it lacks is made."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise write_error(error, path, hint) from error


def require_own(path: Path, kind: str, read: Callable[[Path], object]) -> None:
    """Raise PerfError where a file is to be replaced that is none of its kind. read: reads one; raises
    PerfError, or gives None, for anything else."""
    if not path.is_file() or path.stat().st_size == 0:
        return
    try:
        own = read(path) is not None
    except PerfError:
        own = False
    if not own:
        raise PerfError(
            f"there is another file here already, which is no {kind}",
            where=str(path),
            hint="choose another --out, or move that file away",
        )


def read_error(error: OSError, path: Path, hint: str | None = None) -> PerfError:
    """The PerfError that names the file that cannot be read, and what to do about it."""
    denied = error.errno in (errno.EACCES, errno.EPERM)
    reason = "permission denied" if denied else error.strerror or str(error)
    return PerfError(f"cannot be read: {reason}", where=str(path), hint=hint)


def write_error(error: OSError, path: Path, hint: str | None = None) -> PerfError:
    """The PerfError that names the place of a failed write and what to do about it."""
    reasons = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EROFS: "the disk is read-only",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    if hint is None and error.errno in reasons:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space there, and run it again" if full else "let it be written, or choose another"
    return PerfError(f"cannot write: {reason}", where=str(path), hint=hint)


@contextlib.contextmanager
def _beside(path: Path, data: bytes) -> Iterator[str]:
    """A durable file with `data` and the permissions of `path` beside it; it goes unless it was renamed."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(path))
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _mode(path: Path) -> int:
    """The permissions that a plain `open` would give, or those of the file being replaced."""
    with contextlib.suppress(OSError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; systems that cannot open a folder (Windows) do it themselves."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
