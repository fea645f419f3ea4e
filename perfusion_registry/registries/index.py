"""The index of one concept: an append-only log, one JSON object a line.

    {"event":"publish","release":{...},"chain":"<64 hex>"}
    {"event":"yank","name":"teddy","version":"1.1.0","reason":"a wrong ear","chain":"<64 hex>"}
    {"event":"unyank","name":"teddy","version":"1.1.0","chain":"<64 hex>"}

`chain` is the SHA-256 of the line before's `chain` (none for the first line) and of this line without its
own: a byte that changed anywhere, a line that was lost, moved or put in, breaks it. The chain guards against
accidents and careless edits; against a dishonest server there is the memory of what was seen before
(`memory`), and signatures. A newer perf may write events of other kinds, which an older one passes over, and
releases of later formats, which it lists and cannot use.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from packaging.version import Version as ParsedVersion
from pydantic import ConfigDict, Field, RootModel, ValidationError
from pydantic_core import from_json

from perfusion_registry.errors import PerfError, one_line
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version, canonical_name, parsed_version
from perfusion_registry.registries.registry import Listing, RegistryError
from perfusion_registry.registries.release import AnyRelease

LARGEST_LINE = 64 * 2**10
LARGEST_INDEX = 8 * 2**20
LONGEST_REASON = 1000
LONGEST_VERSION = 100

_CHAIN = re.compile(rb',"chain":"([0-9a-f]{64})"}\Z')
_UNCHAINED = "0" * 64  # until `Index.appended` gives an event its chain
_KNOWN_EVENTS = ("publish", "yank", "unyank")
ASK_KEEPER = "tell the registry's keeper; an index is only ever appended to"
"""What to do where an index contradicts itself."""


class _Line(FileModel):
    """What all lines have in common. A newer perf may add keys that this one can do without."""

    model_config = ConfigDict(extra="ignore")


class Publish(_Line):
    """A release enters the registry."""

    event: Literal["publish"] = "publish"
    release: AnyRelease
    chain: Sha256 = _UNCHAINED


class Yank(_Line):
    """A version is hidden from resolution."""

    event: Literal["yank"] = "yank"
    name: Name
    version: Version
    reason: Annotated[str, Field(max_length=LONGEST_REASON)] = ""
    chain: Sha256 = _UNCHAINED


class Unyank(_Line):
    """A yanked version is shown again."""

    event: Literal["unyank"] = "unyank"
    name: Name
    version: Version
    chain: Sha256 = _UNCHAINED


Event = Publish | Yank | Unyank


class IndexLine(RootModel[Annotated[Event, Field(discriminator="event")]]):
    """One line of a concept's index."""


@dataclass(frozen=True)
class Index:
    """A whole index that has been read and checked.

    data: its bytes. listings: by version, in the order of their publication. chain: of the last line.
    """

    name: str
    data: bytes = b""
    listings: tuple[Listing, ...] = ()
    chain: str = ""

    def find(self, version: str) -> Listing | None:
        """The listing of that version, however it is spelled (1.0 is 1.0.0)."""
        requested = parsed_version(version)
        return next(
            (listing for listing in self.listings if parsed_version(listing.version) == requested), None
        )

    def sorted(self) -> tuple[Listing, ...]:
        """The listings, oldest version first."""
        return tuple(sorted(self.listings, key=lambda listing: parsed_version(listing.version)))

    def appended(self, event: Event) -> Index:
        """The index with one more line; raises RegistryError where a line or the whole would be too long."""
        text = event.model_copy(update={"chain": _UNCHAINED}).model_dump_json(exclude_none=True).encode()
        body = _CHAIN.sub(b"}", text)
        chain = _link(self.chain, body)
        line = body[:-1] + f',"chain":"{chain}"}}\n'.encode()
        if len(line) > LARGEST_LINE:
            raise RegistryError(
                f"the release's description of itself has {len(line):,} bytes; {LARGEST_LINE:,} are allowed",
                hint="shorten its texts",
            )
        data = self.data + line
        if len(data) > LARGEST_INDEX:
            raise RegistryError(
                f"the index of `{self.name}` is full", hint="publish under another name from here on"
            )
        return read_index(data, self.name, f"index of {self.name}")


def read_index(data: bytes, name: str, where: str) -> Index:
    """Read an index and check all of it: shape, chain, the name on every line, one release a version.

    where: the place, for errors. Raises RegistryError at the first line that is wrong.
    """
    if len(data) > LARGEST_INDEX:
        raise RegistryError(f"the index is larger than {LARGEST_INDEX:,} bytes", where=where)
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise RegistryError("the index breaks off in the middle of a line", where=where, hint="try again")
    listings: dict[ParsedVersion, Listing] = {}
    chain = ""
    for number, line in enumerate(lines, 1):
        at = f"{where}, line {number}"
        event, chain = _read_line(line, chain, at)
        if event is None:
            continue
        subject = event.release if isinstance(event, Publish) else event
        if subject.name != name:
            raise RegistryError(
                f"the index is that of `{subject.name}`, not of `{name}`", where=at, hint=ASK_KEEPER
            )
        if len(subject.version) > LONGEST_VERSION:
            raise RegistryError(
                f"the index has a version of {len(subject.version):,} characters", where=at, hint=ASK_KEEPER
            )
        version = parsed_version(subject.version)
        known = listings.get(version)
        if isinstance(event, Publish):
            if known is not None:
                raise RegistryError(
                    f"the index has two releases of {name} {subject.version}: "
                    f"{known.release.sha256[:12]} and {event.release.sha256[:12]}",
                    where=at,
                    hint=ASK_KEEPER,
                )
            listings[version] = Listing(event.release)
        elif known is None:
            raise RegistryError(
                f"the index has a {event.event} of {name} {subject.version}, which was never published",
                where=at,
                hint=ASK_KEEPER,
            )
        else:
            reason = event.reason if isinstance(event, Yank) else ""
            listings[version] = Listing(known.release, isinstance(event, Yank), reason)
    return Index(name, data, tuple(listings.values()), chain)


def index_key(name: str) -> str:
    """Where the index of a concept is; raises PerfError for what is not a canonical name."""
    if canonical_name(name) != name:
        raise PerfError(f"`{name}` is stored as `{canonical_name(name)}`")
    return f"index/{name[:2]}/{name}.jsonl"


def _read_line(line: bytes, before: str, at: str) -> tuple[Event | None, str]:
    """One event and its chain."""
    if len(line) > LARGEST_LINE:
        raise RegistryError(f"a line of the index has more than {LARGEST_LINE:,} bytes", where=at)
    chain = _CHAIN.search(line)
    if chain is None or _link(before, line[: chain.start()] + b"}") != chain[1].decode():
        raise RegistryError("the index was damaged or edited: its chain is broken", where=at, hint=ASK_KEEPER)
    return parsed_event(line, at), chain[1].decode()


def parsed_event(line: bytes, at: str) -> Event | None:
    """The event of a line; None for one of a kind that a newer perf knows."""
    try:
        return IndexLine.model_validate_json(line).root
    except ValidationError as error:
        if _is_of_later_kind(line):
            return None
        raise RegistryError(f"the index is malformed: {first_mistake(error)}", where=at) from error


def _is_of_later_kind(line: bytes) -> bool:
    """Whether a line that cannot be read is an event of a kind that this perf does not know."""
    try:
        told = from_json(line)
    except ValueError:
        return False
    event = told.get("event") if isinstance(told, dict) else None
    return isinstance(event, str) and event not in _KNOWN_EVENTS


def first_mistake(error: ValidationError) -> str:
    """The first thing that is wrong, short whatever the input was."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    message = one_line(first["msg"])
    return f"`{one_line(key, 100)}`: {message}" if key else message


def _link(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()
