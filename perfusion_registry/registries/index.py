"""The index of one concept: an append-only log, one JSON object a line.

    {"event":"publish","release":{...},"chain":"<64 hex>"}
    {"event":"yank","name":"teddy","version":"1.1.0","reason":"a wrong ear","chain":"<64 hex>"}
    {"event":"unyank","name":"teddy","version":"1.1.0","chain":"<64 hex>"}

`chain` is the SHA-256 of the line before's `chain` (none for the first line) and of this line without its
own: a byte that changed anywhere, a line that was lost, moved or put in, breaks it. The chain guards against
accidents and careless edits; against a lying server there is the memory of what was seen before (`memory`),
and signatures.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from packaging.version import Version as ParsedVersion
from pydantic import Field, RootModel, ValidationError

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version, canonical_name
from perfusion_registry.registries.registry import Listing, RegistryError
from perfusion_registry.registries.release import RELEASE_FORMAT, Release

LARGEST_LINE = 64 * 2**10
LARGEST_INDEX = 8 * 2**20
LONGEST_REASON = 1000
LONGEST_VERSION = 100

_CHAIN = re.compile(rb',"chain":"([0-9a-f]{64})"}\Z')
_UNCHAINED = "0" * 64  # until `Index.appended` gives an event its chain
_NEWER = re.compile(rb'"format":(\d{1,9})[,}]')
_ASK_KEEPER = "tell the registry's keeper; an index is only ever appended to"


class Publish(FileModel):
    """A release enters the registry."""

    event: Literal["publish"] = "publish"
    release: Release
    chain: Sha256 = _UNCHAINED


class Yank(FileModel):
    """A version is hidden from resolution."""

    event: Literal["yank"] = "yank"
    name: Name
    version: Version
    reason: Annotated[str, Field(max_length=LONGEST_REASON)] = ""
    chain: Sha256 = _UNCHAINED


class Unyank(FileModel):
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
        wanted = ParsedVersion(version)
        return next((one for one in self.listings if ParsedVersion(one.release.version) == wanted), None)

    def sorted(self) -> tuple[Listing, ...]:
        """The listings, oldest version first."""
        return tuple(sorted(self.listings, key=lambda one: ParsedVersion(one.release.version)))

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
    """Read an index, believing nothing: shape, chain, the name on every line, one release a version.

    where: the place, for errors. Raises RegistryError at the first line that is wrong.
    """
    if len(data) > LARGEST_INDEX:
        raise RegistryError(f"the index is larger than {LARGEST_INDEX:,} bytes", where=where)
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise RegistryError("the index breaks off in the middle of a line", where=where, hint="try again")
    found: dict[ParsedVersion, Listing] = {}
    chain = ""
    for number, line in enumerate(lines, 1):
        at = f"{where}, line {number}"
        event, chain = _read_line(line, chain, at)
        said = event.release if isinstance(event, Publish) else event
        if said.name != name:
            raise RegistryError(
                f"the index speaks of `{said.name}`, not of `{name}`", where=at, hint=_ASK_KEEPER
            )
        if len(said.version) > LONGEST_VERSION:
            raise RegistryError(
                f"the index has a version of {len(said.version):,} characters", where=at, hint=_ASK_KEEPER
            )
        version = ParsedVersion(said.version)
        known = found.get(version)
        if isinstance(event, Publish):
            if known is not None:
                raise RegistryError(
                    f"the index has two releases of {name} {said.version}: {known.release.sha256[:12]} and "
                    f"{event.release.sha256[:12]}",
                    where=at,
                    hint=_ASK_KEEPER,
                )
            found[version] = Listing(event.release)
        elif known is None:
            raise RegistryError(
                f"the index has a {event.event} of {name} {said.version}, which was never published",
                where=at,
                hint=_ASK_KEEPER,
            )
        else:
            reason = event.reason if isinstance(event, Yank) else ""
            found[version] = Listing(known.release, isinstance(event, Yank), reason)
    return Index(name, data, tuple(found.values()), chain)


def index_key(name: str) -> str:
    """Where the index of a concept is; raises PerfError for what is no canonical name."""
    if canonical_name(name) != name:
        raise PerfError(f"`{name}` is stored as `{canonical_name(name)}`")
    return f"index/{name[:2]}/{name}.jsonl"


def _read_line(line: bytes, before: str, at: str) -> tuple[Event, str]:
    """One event and its chain."""
    if len(line) > LARGEST_LINE:
        raise RegistryError(f"a line of the index has more than {LARGEST_LINE:,} bytes", where=at)
    chain = _CHAIN.search(line)
    if chain is None or _link(before, line[: chain.start()] + b"}") != chain[1].decode():
        raise RegistryError(
            "the index was damaged or edited: its chain is broken", where=at, hint=_ASK_KEEPER
        )
    try:
        return IndexLine.model_validate_json(line).root, chain[1].decode()
    except ValidationError as error:
        newer = max((int(found[1]) for found in _NEWER.finditer(line)), default=0)
        if newer > RELEASE_FORMAT:
            raise RegistryError(
                f"the index has a release of format {newer}; this perf reads up to {RELEASE_FORMAT}",
                where=at,
                hint="upgrade perf (`pip install -U perfusion-registry`)",
            ) from error
        raise RegistryError(f"the index is malformed: {first_mistake(error)}", where=at) from error


def first_mistake(error: ValidationError) -> str:
    """The first thing that is wrong, short whatever the input was."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"`{key[:100]}`: {first['msg'][:200]}" if key else first["msg"][:200]


def _link(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()
