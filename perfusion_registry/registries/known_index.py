"""The listings of an index whose very bytes were found whole before, of which little is read again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import overload

from packaging.version import Version as ParsedVersion

from perfusion_registry.recipe.name import parsed_version
from perfusion_registry.registries.index import ASK_KEEPER, Publish, Yank, parsed_event
from perfusion_registry.registries.registry import Listing, RegistryError
from perfusion_registry.registries.release import Release

_PLAIN = tuple(
    b'{"event":"publish","release":{"format":%d,"name":"%%b","version":"' % form for form in (1, 2)
)
"""What nearly all lines begin with, before the version; one of another version than digits is read whole."""
_DIGITS = re.compile(rb"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*")


def reread(data: bytes, name: str, where: str) -> Sequence[Listing]:
    """The listings of an index that `read_index` found whole before, oldest version first.

    Only for the very same bytes, as their hash shows: of most lines only the version is read here, and a
    release when it is first used. Raises RegistryError for what this version of perf cannot read.
    """
    whole = data.split(b"\n")[:-1]
    if (plain := _plain(whole, tuple(opening % name.encode() for opening in _PLAIN))) is not None:
        return _Reread(*plain, name, where)
    listings: list[tuple[ParsedVersion, Listing]] = []
    for line in whole:
        event = parsed_event(line, where)
        if event is None:
            continue
        if isinstance(event, Publish):
            listings.append((parsed_version(event.release.version), Listing(event.release)))
            continue
        version, yanked = parsed_version(event.version), isinstance(event, Yank)
        reason = event.reason if isinstance(event, Yank) else ""
        listings = [
            (of, Listing(listing.release, yanked, reason) if of == version else listing)
            for of, listing in listings
        ]
    return tuple(listing for _, listing in sorted(listings, key=itemgetter(0)))


def _plain(
    lines: Sequence[bytes], openings: tuple[bytes, ...]
) -> tuple[Sequence[bytes], Sequence[bytes]] | None:
    """The versions and lines of an index that only publishes plain versions, by version; None of any
    other. openings: what its lines may begin with, all of one length."""
    start, by_version = len(openings[0]), []
    for line in lines:
        version = line[start : line.find(b'"', start)]
        if not line.startswith(openings) or (numbers := _numbers(version)) is None:
            return None
        by_version.append((numbers, version, line))
    if not by_version:
        return None
    by_version.sort()
    _, versions, ordered = zip(*by_version, strict=True)
    return versions, ordered


@lru_cache(maxsize=2**14)
def _numbers(version: bytes) -> tuple[int, ...] | None:
    """What versions of digits and dots are sorted by, no index having both 1.0 and 1.0.0; None for others."""
    return tuple(map(int, version.split(b"."))) if _DIGITS.fullmatch(version) else None


class _Reread(Sequence[Listing]):
    """The listings of an index, by version; each is made when it is first used, which few are."""

    def __init__(self, versions: Sequence[bytes], lines: Sequence[bytes], name: str, where: str) -> None:
        # Two tuples of bytes: unlike a tuple of pairs, the garbage collector does not have to walk them.
        self._versions = versions
        self._lines = lines
        self._name = name
        self._where = where
        self._made: dict[int, Listing] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> Listing: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Listing]: ...
    def __getitem__(self, at: int | slice) -> Listing | Sequence[Listing]:
        if isinstance(at, slice):
            return tuple(self[index] for index in range(len(self))[at])
        at = range(len(self))[at]
        if at not in self._made:
            self._made[at] = _Unread(self._versions[at], self._lines[at], self._name, self._where)
        return self._made[at]


class _Unread(Listing):
    """A listing whose release is still a line of the index."""

    def __init__(self, version: bytes, line: bytes, name: str, where: str) -> None:
        vars(self)["_line"] = version, line, name, where

    @property
    def version(self) -> str:
        """The version that the line begins with."""
        version: bytes = vars(self)["_line"][0]
        return version.decode()

    @cached_property
    def release(self) -> Release:
        """The release, read now; RegistryError where the whole line is not what its beginning says."""
        _, line, name, where = vars(self)["_line"]
        event = parsed_event(line, where)
        if isinstance(event, Publish):
            release = event.release
            if (release.name, release.version) == (name, self.version):
                return release
        raise RegistryError(
            f"the index has a line that contradicts itself about {name} {self.version}",
            where=where,
            hint=ASK_KEEPER,
        )
