"""How the inputs of tasks travel between machines that share no disk.

What a task is made of is pickled with what it is to do; every file that it names is replaced by its SHA-256
and shared, and every machine that unpacks it fetches a file once, whoever asks first. A base's folder
travels as the files that make it, and the embedded base as a place in its package, of which every machine has
the same version and the same files. A pickle is opened only by its own SHA-256, which comes by Ray: who can
write to the shared store cannot have a machine run what he likes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePath
from typing import Any

from perfusion_registry.artifact import Store
from perfusion_registry.base import BaseDescription, describe_base
from perfusion_registry.base.embedded import DISTRIBUTION, REINSTALL, distribution_folder, editions
from perfusion_registry.cluster.shared_store import SharedStore
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import FileDigests
from perfusion_registry.file_lock import file_lock
from perfusion_registry.recipe.writing import make_folder
from perfusion_registry.version import __version__

_SMALL = 2**20
"""Bytes of a file of a base's folder that goes along although the base is not made of it: a licence,
bounds."""


@dataclass(frozen=True)
class SharedFile:
    """A file by its content. path: within the folder that it is in; its name where it is alone."""

    path: str
    sha256: str
    size: int


class Packing:
    """Pickles what tasks are made of, and shares the files that it names.

    shared: None where machines see the same disk, or are one: then paths stay paths. folders: the bases whose
    files may be among them, and folders that travel whole.
    """

    def __init__(
        self, shared: SharedStore | None, store: Store, folders: Sequence[BaseDescription | Path]
    ) -> None:
        self._shared = shared
        self._digests = FileDigests(store.root)
        self._folders: dict[Path, tuple[str, ...]] = {}
        self._told: dict[Path, tuple[Any, ...]] = {}
        self._packages = _packages()
        for folder in folders:
            self._folders |= {folder: _all_of(folder)} if isinstance(folder, Path) else _folders_of(folder)

    def pack(self, value: Any) -> bytes:
        """The value as bytes that `unpack` reads on another machine."""
        packed = io.BytesIO()
        pickler = pickle.Pickler(packed, protocol=5)
        pickler.persistent_id = self._named  # type: ignore[method-assign]
        pickler.dump(value)
        return packed.getvalue()

    def _named(self, thing: Any) -> tuple[Any, ...] | None:
        if self._shared is None or not isinstance(thing, Store | PurePath):
            return None
        if isinstance(thing, Store):
            return ("store",)
        path = Path(thing)
        if path not in self._told:
            self._told[path] = self._tell(path, self._shared)
        return self._told[path]

    def _tell(self, path: Path, shared: SharedStore) -> tuple[Any, ...]:
        for name, (package, version) in self._packages.items():
            if path.is_relative_to(package):
                return "package", name, version, path.relative_to(package).as_posix()
        if path in self._folders:
            inside = [self._share(path, path / name, shared) for name in self._folders[path]]
            return "folder", path.name, tuple(inside)
        if path.is_file():
            return "file", self._share(path.parent, path, shared)
        return "path", str(path)  # such as the project's folder: no task opens it

    def _share(self, folder: Path, path: Path, shared: SharedStore) -> SharedFile:
        sha256 = self._digests.sha256(path)
        shared.put_file(path, sha256)
        return SharedFile(path.relative_to(folder).as_posix(), sha256, path.stat().st_size)


def unpack(data: bytes, shared: SharedStore | None, store: Store) -> Any:
    """What was packed, its files where this machine has them. store: this machine's.

    Raises PerfError where a file is not to be had.
    """
    unpickler = pickle.Unpickler(io.BytesIO(data))
    unpickler.persistent_load = _Files(shared, store).found  # type: ignore[method-assign]
    return unpickler.load()


@dataclass(frozen=True)
class _Files:
    """The files of inputs on one machine, below `inputs/` in its store."""

    shared: SharedStore | None
    store: Store

    def found(self, named: tuple[Any, ...]) -> Any:
        """The thing that a pickle names."""
        kind, *rest = named
        if kind == "store":
            return self.store
        if kind == "package":
            return _of_package(*rest)
        if kind == "path":
            return Path(rest[0])
        if kind == "file":
            return self._fetched(rest[0].path, [rest[0]]) / rest[0].path
        return self._fetched(rest[0], rest[1]) / rest[0]

    def _fetched(self, name: str, files: Sequence[SharedFile]) -> Path:
        """The folder that has the files, below `name` or alone; fetched by one process, while others wait."""
        listing = json.dumps([name, [[file.path, file.sha256] for file in files]])
        folder = self.store.root / "inputs" / hashlib.sha256(listing.encode()).hexdigest()
        whole = folder / ".whole"
        if whole.exists():
            return folder
        assert self.shared is not None
        make_folder(folder)
        with file_lock(folder / ".lock", poll=0.2):
            if not whole.exists():
                within = folder if len(files) == 1 and files[0].path == name else folder / name
                for file in files:
                    self.shared.get_file(file.sha256, file.size, within / file.path)
                whole.touch()
        return folder


def _packages() -> Mapping[str, tuple[Path, str | None]]:
    """The folders and versions of what every machine has: perf, and the embedded base if installed."""
    found: dict[str, tuple[Path, str | None]] = {
        "perfusion-registry": (Path(str(resources.files("perfusion_registry"))), __version__)
    }
    with contextlib.suppress(PerfError):
        folder = distribution_folder()
        found[DISTRIBUTION] = (folder, _told_edition(folder, editions()[-1].version))
    return found


@cache
def _told_edition(folder: Path, version: str) -> str:
    """A version of the embedded base with the digest of its files as they are there: of one version they may
    be others, where somebody trains one."""
    return f"{version} ({describe_base(str(folder / 'weights')).digest[:16]})"


def _of_package(name: str, version: str, path: str) -> Path:
    folder, here = _packages().get(name, (Path(), None))
    if here != version:
        has = f"has {name} {here}" if here else f"is without {name}"
        raise PerfError(
            f"a machine of the cluster {has}, and the work is of {name} {version}",
            where=platform.node(),
            hint=f"{REINSTALL} on all of them"
            if name == DISTRIBUTION
            else "install one version on all of them",
        )
    return folder / path


def _all_of(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))


def _folders_of(base: BaseDescription) -> Mapping[Path, tuple[str, ...]]:
    """Of the folders that a base consists of, the files that are wanted of each."""
    folders = {}
    if base.folder.is_dir():
        own = [file.path for file in base.files if file.part is None]
        beside = [path for path in base.folder.iterdir() if path.is_file() and path.stat().st_size < _SMALL]
        folders[base.folder] = tuple(sorted({*own, *(path.name for path in beside)}))
    for part in base.options.parts:
        if part.place.is_dir():
            said = part.said.rstrip("/")
            folders[part.place] = tuple(file.path.removeprefix(said).lstrip("/") for file in part.files)
    return folders
