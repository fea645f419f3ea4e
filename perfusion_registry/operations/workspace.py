"""An opened project: where it is, and the store, keys, registries and reporter that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Store
from perfusion_registry.artifact.lockfiles import note_lockfile
from perfusion_registry.artifact.locking import read_lock
from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.cache_folder import cache_dir
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import LOCKFILE_NAME, MANIFEST_NAME, Lockfile
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.project import find_root, not_found

if TYPE_CHECKING:
    from types import TracebackType

    from perfusion_registry.base import BaseDescription, SaidOfBase
    from perfusion_registry.registries.registry import Registry
    from perfusion_registry.resolve.sources import Sources
    from perfusion_registry.trust import KnownKeys, SignaturePolicy


@dataclass(frozen=True)
class Workspace:
    """Where an operation works. A context manager: while it is open, nothing it finds in the store is pruned.

    root: the project's folder, or None outside of one. start: the folder that was named, or None for the
    working directory. offline: no socket is opened; of registries and bases, what is on this machine is all
    there is. The project's files are read when an operation reads them, as they are then.
    """

    root: Path | None
    start: Path | None
    store: Store
    offline: bool
    reporter: Reporter
    _held: ExitStack = field(repr=False, compare=False)

    @classmethod
    def open(
        cls,
        start: Path | None = None,
        *,
        store: Path | None = None,
        offline: bool = False,
        reporter: Reporter | None = None,
        lockfile_alone: bool = False,
        optional: bool = False,
    ) -> Workspace:
        """The project of `start` (default: the working directory) or of its nearest parent that has one.

        store: a folder; default that of this machine. lockfile_alone: a folder that has a lockfile and no
        manifest will do. optional: where there is no project, the workspace has none. Waits while `perf cache
        prune` is at work. Raises ProjectNotFoundError.
        """
        root = find_root(start, lockfile_alone=lockfile_alone)
        if root is None and not optional:
            raise not_found(start)
        return cls._of(root, start, store, offline, reporter)

    @classmethod
    def outside(
        cls, *, store: Path | None = None, offline: bool = False, reporter: Reporter | None = None
    ) -> Workspace:
        """A workspace without a project, for what needs the store alone."""
        return cls._of(None, None, store, offline, reporter)

    @classmethod
    def _of(
        cls,
        root: Path | None,
        start: Path | None,
        store: Path | None,
        offline: bool,
        reporter: Reporter | None,
    ) -> Workspace:
        used = Store(store or cache_dir())
        with ExitStack() as stack:
            stack.enter_context(read_lock(used.root, reporter))
            made = cls(root, start, used, offline, reporter or Silent(), stack.pop_all())
        if root is not None:
            made.keep(root / LOCKFILE_NAME)
        return made

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store."""
        self._held.close()

    def keep(self, lockfile: Path) -> None:
        """Make a lockfile known to `cache prune`, which then keeps what it names."""
        note_lockfile(self.store.root, lockfile)

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is, or would be. Raises ProjectNotFoundError outside of a project."""
        if self.root is None:
            raise not_found(self.start)
        return self.root / MANIFEST_NAME

    def read(self, *, drop_conflicts: bool = False) -> ProjectFolder:
        """The project as its files are now.

        drop_conflicts: the lockfile is about to be written anew, so what a merge left in conflict is left
        out. Raises ProjectNotFoundError outside of one.
        """
        return ProjectFolder.open(self.manifest_path.parent, drop_conflicts=drop_conflicts)

    def read_if_any(self) -> ProjectFolder | None:
        """The project; None outside of one, and where it cannot be read and no folder was named."""
        try:
            return self.read()
        except PerfError:
            if self.start is not None:
                raise
            return None

    @property
    def keys(self) -> KnownKeys:
        """The publishers' keys that this machine knows."""
        from perfusion_registry.trust import KnownKeys
        from perfusion_registry.trust.known import keys_path

        return KnownKeys(keys_path())

    def signatures(self, root: Path, *, require: bool) -> SignaturePolicy:
        """The check of who signed a release. root: what registries in relative folders are relative to."""
        from perfusion_registry.trust import SignaturePolicy

        return SignaturePolicy(self.keys, root, require=require)

    def registries(self, project: ProjectFolder, lockfile: Lockfile | None = None) -> Sources:
        """The project's registries, opened when they are first asked.

        Where its manifest names none, those that are locked, by their addresses. lockfile: instead of the
        project's.
        """
        return self.registries_at(project.root, registries_of(project, lockfile))

    def registries_at(self, root: Path, named: Mapping[str, str]) -> Sources:
        """The registries at these addresses, by name. root: what a relative folder is relative to."""
        from perfusion_registry.resolve.sources import Sources

        names = {url: name for name, url in named.items()}
        return Sources(named, lambda url: self.registry(url, names.get(url, "registry"), root))

    def registry(self, url: str, name: str, root: Path) -> Registry:
        """The registry at an address. name: for its credentials. root: what a folder is relative to."""
        from perfusion_registry.registries.opening import open_registry

        return open_registry(url, name=name, root=root, cache=self.store.root, offline=self.offline)

    def base(self, project: ProjectFolder, *, download: bool = True) -> BaseDescription:
        """The project's base, described without torch.

        download: whether it may be fetched, if not offline.
        """
        return self._describe(project.manifest.project.base, project.root, download, _said(project))

    def base_named(self, name: str, root: Path | None = None, *, download: bool = True) -> BaseDescription:
        """A base by its name in a manifest; where that is the project's, it is what `[base]` says.

        root: what a path is relative to; default the working directory. The path of another project's
        manifest is that project's base, as it says.
        """
        from perfusion_registry.base import BaseReference

        reference = BaseReference.parse(name)
        said, place = None, reference.place(root)
        if reference.is_manifest and place is not None and place.is_file():
            return self.base(read_project(place), download=download)
        inside = place is not None and self.root is not None
        project = self.read_if_any() if inside else None
        if project is not None:
            own = BaseReference.parse(project.manifest.project.base, where=str(project.manifest_path))
            there = own.place(project.root)
            same = place is not None and there is not None and place.resolve() == there.resolve()
            said = _said(project) if same else None
        return self._describe(name, root, download, said)

    def base_as_it_is(self, name: str, root: Path | None = None, *, download: bool = True) -> BaseDescription:
        """The same without anything that a project says of it."""
        return self._describe(name, root, download, None)

    def base_or_own(self, name: str | None) -> BaseDescription:
        """The base of that name; for None the project's, and outside of a project the embedded one."""
        if name is None and self.root is not None:
            return self.base(self.read())
        return self.base_named(name or EMBEDDED)

    def _describe(
        self, name: str, root: Path | None, download: bool, said: SaidOfBase | None
    ) -> BaseDescription:
        from perfusion_registry.base import describe_base

        allowed = None if download and not self.offline else False
        return describe_base(name, root=root, allow_download=allowed, said=said)


def read_project(manifest: Path) -> ProjectFolder:
    """The project of a manifest that is named by its path. Raises PerfError for another file."""
    if manifest.name != MANIFEST_NAME:
        raise PerfError(
            f"a project's manifest is called {MANIFEST_NAME}",
            where=str(manifest),
            hint="name that file, or a base",
        )
    return ProjectFolder.open(manifest.parent)


def _said(project: ProjectFolder) -> SaidOfBase:
    """What the manifest says of the base; of a project without one, what its lockfile repeats."""
    from perfusion_registry.base import SaidOfBase

    path = project.manifest_path if project.manifest_path.is_file() else project.lockfile_path
    return SaidOfBase(project.manifest.base, project.root, str(path))


def registries_of(project: ProjectFolder, lockfile: Lockfile | None = None) -> dict[str, str]:
    """The registries that the manifest names; where it names none, the locked ones, by their addresses."""
    locked = lockfile or project.lockfile or Lockfile()
    return dict(project.manifest.registries) or addresses(locked)


def addresses(lockfile: Lockfile) -> dict[str, str]:
    """The registries of a lockfile alone, which have no names but their addresses."""
    return {block.registry: block.registry for block in lockfile.concepts if block.registry is not None}
