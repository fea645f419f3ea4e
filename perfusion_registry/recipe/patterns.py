"""Patterns that name files, such as `photos/*.jpg`, read alike on every system."""

from __future__ import annotations

import fnmatch
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from perfusion_registry.errors import PerfError


def matches(folder: Path, pattern: str) -> list[Path]:
    """Everything that a pattern names, sorted by path: files, folders, and links that lead nowhere.

    `*`, `?`, `[...]` match inside one folder name or file name, `**` any number of folders. A name that is
    there exactly as it is written is that one alone, whatever it holds (`img[1].png`). Letter case is ignored
    on every system, so that `*.png` finds what a camera called `IMG.PNG`, and names are compared in one
    Unicode form. Hidden files are only found by name. pattern: relative to `folder`, or absolute; a `~` that
    it begins with is the user's home.
    """
    pattern = at_home(pattern)
    pure = PurePosixPath(pattern)
    absolute = pure.is_absolute() or bool(re.match(r"[A-Za-z]:/", pattern))
    start = Path(pure.anchor or pure.parts[0] + "/") if absolute else folder
    parts = pure.parts[1:] if absolute else pure.parts
    return sorted(set(_walk(start, parts)), key=lambda path: (path.as_posix().casefold(), path.as_posix()))


def at_home(pattern: str) -> str:
    """A pattern with the user's home for the `~/` that it begins with."""
    return os.path.expanduser(pattern).replace(os.sep, "/") if pattern.startswith("~/") else pattern


def find_files(folder: Path, pattern: str) -> list[Path]:
    """The files that a pattern names, as in `matches`."""
    return [path for path in matches(folder, pattern) if path.is_file()]


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted; none where it is no folder. Raises PerfError where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise PerfError(f"the folder cannot be read: {error.strerror or error}", where=str(folder)) from error


def one_form(name: str) -> str:
    """A name in the one form in which names are compared: composed, in lower case."""
    return unicodedata.normalize("NFC", name).casefold()


def _walk(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """Paths below `folder` whose components match `parts`, one by one."""
    if not parts:
        if os.path.lexists(folder):
            yield folder
        return
    head, rest = parts[0], parts[1:]
    if head == "..":
        named = folder.name not in ("", "..") and not folder.is_symlink()  # else its parent is elsewhere
        yield from _walk(folder.parent if named else folder / "..", rest)
    elif head == "**":
        yield from _walk(folder, rest)
        for name in names_in(folder):
            if not name.startswith(".") and (folder / name).is_dir() and not (folder / name).is_symlink():
                yield from _walk(folder / name, parts)
    else:
        for name in _named(head, names_in(folder)):
            yield from _walk(folder / name, rest)


def _named(pattern: str, names: list[str]) -> list[str]:
    """Those of the names in one folder that one component of a pattern means."""
    exact = [name for name in names if name == pattern]
    if not exact:
        composed = unicodedata.normalize("NFC", pattern)
        exact = [name for name in names if unicodedata.normalize("NFC", name) == composed]
    if exact:
        return exact
    wanted = re.compile(fnmatch.translate(one_form(pattern)))
    return [
        name
        for name in names
        if wanted.match(one_form(name)) and (not name.startswith(".") or pattern.startswith("."))
    ]
