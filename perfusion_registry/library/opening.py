"""How a program comes by a project: it opens one, creates one, or takes a lockfile from elsewhere."""

from __future__ import annotations

from pathlib import Path

from perfusion_registry.library.project import Project
from perfusion_registry.reporter import Logging, Reporter


def open(
    folder: str | Path = ".",
    *,
    store: str | Path | None = None,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Project:
    """The project of a folder, or of its nearest parent that has a `perfusion.toml`.

    A folder that has a `perfusion.lock` alone will do; it can be synced, verified and drawn with.

    store: the folder of artifacts; default that of this machine. offline: open no socket. reporter: who hears
    of progress, notes and warnings; default the logger `perfusion_registry`. Nothing has to be closed: each
    operation reads the project's files as they are then, and holds the store only while it works. Raises
    PerfError where there is no project.
    """
    project = Project(Path(folder), Path(store) if store else None, offline, reporter or Logging())
    with project.workspace():
        return project


def create(
    folder: str | Path = ".",
    *,
    name: str | None = None,
    base: str = "storybook",
    store: str | Path | None = None,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Project:
    """Begin a project in a folder: a manifest and an example of a recipe; `open` it.

    base: the embedded "storybook", "owner/name@revision" of the Hugging Face Hub, or a folder. Raises
    PerfError where there is a project already.
    """
    from perfusion_registry.operations.init import init

    init(Path(folder), base=base, name=name)
    return open(folder, store=store, offline=offline, reporter=reporter)


def sync_lockfile(
    source: str | Path,
    folder: str | Path = ".",
    *,
    require_signed: bool = False,
    store: str | Path | None = None,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Project:
    """Fetch exactly what a lockfile from elsewhere names, and open the folder that draws with it.

    source: the lockfile, a file or an http(s) address. folder: gets the lockfile, and needs no manifest.
    require_signed: refuse what nobody signed. Nothing is trained. Raises PerfError where the folder holds
    a project, or a lockfile of other contents.
    """
    from perfusion_registry.operations.sync import SyncOptions
    from perfusion_registry.operations.sync import sync_lockfile as sync
    from perfusion_registry.operations.workspace import Workspace

    used = Path(store) if store else None
    with Workspace.outside(store=used, offline=offline, reporter=reporter or Logging()) as workspace:
        sync(workspace, str(source), Path(folder), SyncOptions(require_signed=require_signed))
    return open(folder, store=store, offline=offline, reporter=reporter)
