"""The keys that this machine trusts, each for one name of one registry.

known_keys.toml     written by perf: who signed a name first is its publisher from then on
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

from packaging.version import Version
from pydantic import Field

from perfusion_registry.cache_folder import expand_user
from perfusion_registry.errors import PerfError
from perfusion_registry.file_lock import file_lock
from perfusion_registry.recipe.document import parse_toml, quote, read_text, validate
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name
from perfusion_registry.recipe.name import Version as VersionText
from perfusion_registry.recipe.writing import make_folder, replace_text, write_error
from perfusion_registry.registries.memory import identity
from perfusion_registry.trust.paths import data_dir

_HEADER = "# Written by perf; see `perf key list`.\n"


class Pin(FileModel):
    """A name of a registry and the public key of its publisher.

    since: the lowest version that was seen signed; lower ones may come from before the publisher had a key.
    """

    registry: Annotated[str, Field(min_length=1, max_length=4000)]
    name: Name
    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    since: VersionText


class _File(FileModel):
    keys: Annotated[tuple[Pin, ...], Field(alias="key")] = ()


def registry_identity(url: str, root: Path) -> str:
    """What tells a registry from every other: of mirrors the first, of a folder its whole path."""
    url = " ".join(url.split())
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:", url):
        return identity(url)
    return str((root / expand_user(url)).resolve())


def keys_path() -> Path:
    """Where this machine keeps the keys that it knows."""
    return data_dir() / "known_keys.toml"


class KnownKeys:
    """The file of pins at `path`; changes are atomic, and several processes take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pins(self) -> tuple[Pin, ...]:
        """All pins, by registry and name. Raises PerfError for a damaged file: nothing is trusted then."""
        if not self.path.exists():
            return ()
        text = read_text(self.path, "file of known keys")
        data = parse_toml(text, str(self.path), "file of known keys")
        read = validate(data, _File, text=text, where=str(self.path), kind="file of known keys")
        return tuple(sorted(read.keys, key=lambda pin: (pin.registry, pin.name)))

    def remember(self, pins: Iterable[Pin]) -> None:
        """Add pins. Raises PerfError where another process pinned another key meanwhile."""
        news = list(pins)

        def change(before: dict[tuple[str, str], Pin]) -> None:
            for pin in news:
                known = before.get((pin.registry, pin.name))
                if known is not None and known.key != pin.key:
                    raise PerfError(
                        f"`{pin.name}` was signed with two keys at once, so neither is trusted",
                        where=pin.registry,
                        hint=f"ask its publisher which is right, then `perf key trust {pin.name} KEY`",
                    )
                since = min((pin.since, known.since if known else pin.since), key=Version)
                before[pin.registry, pin.name] = pin.model_copy(update={"since": since})

        if news:
            self._change(change)

    def replace(self, pin: Pin) -> None:
        """Pin a key whatever was pinned before: a person decided so."""
        self._change(lambda before: before.update({(pin.registry, pin.name): pin}))

    def forget(self, registry: str, name: str) -> bool:
        """Forget the key of a name; False where none was known."""
        forgotten: list[Pin | None] = []
        self._change(lambda before: forgotten.append(before.pop((registry, name), None)))
        return forgotten[0] is not None

    def _change(self, change: Callable[[dict[tuple[str, str], Pin]], object]) -> None:
        make_folder(self.path.parent)
        lock = self.path.with_suffix(".lock")
        try:
            with file_lock(lock):
                pins = {(pin.registry, pin.name): pin for pin in self.pins()}
                change(pins)
                replace_text(self.path, _text(pins[key] for key in sorted(pins)))
        except OSError as error:
            raise write_error(error, lock) from error


def _text(pins: Iterable[Pin]) -> str:
    blocks = [
        "\n".join(
            ["[[key]]", *(f"{field} = {quote(value)}" for field, value in pin.model_dump().items()), ""]
        )
        for pin in pins
    ]
    return "\n".join([_HEADER, *blocks])
