"""`doctor`: examine a machine and a project, one finding at a time."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from perfusion_registry.amounts import count
from perfusion_registry.artifact import Store
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.extras import lacking
from perfusion_registry.operations.init import WRITTEN
from perfusion_registry.operations.loaded_base import rounded_away
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import LOCKFILE_NAME, MANIFEST_NAME
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.project import ProjectNotFoundError

_LITTLE_SPACE = 1_000_000_000  # bytes; a base with its optimizer state wants more

State = Literal["ok", "note", "broken"]


class Finding(FileModel):
    """One thing that was looked at. state: `note` is worth knowing, `broken` keeps perf from working."""

    what: str
    state: State
    told: str
    hint: str | None


class DoctorResult(Result):
    """`perf doctor`."""

    schema_: Literal["perf.doctor/1"] = named("perf.doctor/1")
    healthy: bool
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """What keeps perf from working."""
        return tuple(finding for finding in self.findings if finding.state == "broken")

    def raise_if_failed(self) -> None:
        """Raise CheckFailedError where something is broken."""
        if self.broken:
            are = "is" if len(self.broken) == 1 else "are"
            what = ", ".join(finding.what for finding in self.broken)
            raise CheckFailedError(f"{count(len(self.broken), 'thing')} {are} broken: {what}")


def doctor(workspace: Workspace, *, online: bool = False) -> DoctorResult:
    """Look at everything that perf needs; outside a project, at the machine alone.

    online: also ask whether remote registries answer.
    """
    findings = tuple(_examine(workspace, online=online))
    return DoctorResult(healthy=all(finding.state != "broken" for finding in findings), findings=findings)


def _examine(workspace: Workspace, *, online: bool) -> Iterator[Finding]:
    yield from _python()
    yield from _torch()
    yield from _store(workspace.store.root)
    try:
        project = workspace.read()
    except ProjectNotFoundError as error:
        yield _finding("project", "note", error.what, error.hint)
        return
    except PerfError as error:
        yield _broken("project", error, "correct the file")
        return
    yield _finding("project", "ok", f"{project.manifest.project.name} in {project.root}")
    yield from _base(workspace, project)
    yield from _lock(project)
    yield from _artifacts(project, workspace.store)
    yield from _git(project)
    yield from _registries(workspace, project, online=online)


def _finding(what: str, state: State, text: str, hint: str | None = None) -> Finding:
    return Finding(what=what, state=state, told=text, hint=hint)


def _broken(what: str, error: PerfError, hint: str | None = None) -> Finding:
    """What an error says, its place included. hint: where it has none of its own."""
    told = f"{error.what}\n  at {error.where}" if error.where else error.what
    return _finding(what, "broken", told, error.hint or hint)


def _python() -> Iterator[Finding]:
    from perfusion_registry.version import __version__

    text = f"perf {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield _finding("Python", "ok", text)


def _torch() -> Iterator[Finding]:
    try:
        import torch

        from perfusion_registry.base.device import choose_device, choose_formats
    except (ImportError, OSError) as error:
        lack = lacking(error) if isinstance(error, ImportError) else None
        if lack is not None:
            yield _finding("torch", "note", lack.what, lack.hint)
            return
        yield _finding(
            "torch", "broken", f"it cannot be imported: {error}", "install perfusion-registry again"
        )
        return
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    threads = count(torch.get_num_threads(), "thread")
    yield _finding("torch", "ok", f"{torch.__version__}, built {built}, {threads}")
    try:
        device = choose_device()
        dtype, compute = choose_formats(device)
    except (PerfError, RuntimeError) as error:
        yield _finding(
            "device", "broken", str(error), "see the driver of the accelerator, or use --device cpu"
        )
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    formats = " with products in ".join(
        dict.fromkeys(str(dtype_used).removeprefix("torch.") for dtype_used in (dtype, compute))
    )
    yield _finding("device", "ok", f"{device.type} ({name}), {formats}")


def _store(root: Path) -> Iterator[Finding]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
        free = shutil.disk_usage(root).free
    except OSError as error:
        text = f"{root} cannot be written: {error.strerror or error}"
        yield _finding("store", "broken", text, "set PERF_CACHE_DIR to a folder that can be written")
        return
    text = f"{root}, {free / 1e9:.1f} GB free"
    if free < _LITTLE_SPACE:
        yield _finding("store", "note", text, "`perf cache prune` frees some space")
    else:
        yield _finding("store", "ok", text)


def _base(workspace: Workspace, project: ProjectFolder) -> Iterator[Finding]:
    from perfusion_registry.base import require_trainable
    from perfusion_registry.base.embedded import told_edition
    from perfusion_registry.resolve import check_encoder, find_covariance
    from perfusion_registry.resolve.covariance import needs_covariance
    from perfusion_registry.resolve.staleness import base_differs

    try:
        base = workspace.base(project, download=False)
    except PerfError as error:
        yield _broken("base", error)
        return
    locked = project.lockfile.base if project.lockfile else None
    differs = base_differs(locked, base)
    own = [file for file in base.files if file.part is None]
    called = told_edition(base.plain_digest) or base.repo
    text = f"{called}, {len(own)} files, {sum(file.size for file in own) / 1e6:.0f} MB"
    if differs is not None:
        yield _finding("base", "broken", *differs)
    else:
        yield _finding("base", "ok", text if locked else f"{text}, not locked yet")
    if base.prediction is not None:
        yield _finding("prediction", "ok" if base.prediction.told_by else "note", base.prediction.sentence)
        if (fp8 := rounded_away(base)) is not None:
            yield _finding("format", "note", fp8)
    if base.clip is None:
        text = "the base has no CLIP model: a build keeps its last step, and nothing can be tuned or judged"
        yield _finding("scorer", "note", text, "name one as `scorer` under [base] in perfusion.toml")
    for sentence in base.options.sentences:
        yield _finding("[base]", "ok", sentence)
    if not project.manifest_path.is_file():  # a lockfile alone draws, which needs no covariance
        return
    try:
        require_trainable(base)
    except PerfError as error:
        yield _finding("training", "broken" if project.manifest.concepts else "note", error.what, error.hint)
    try:
        covariance = find_covariance(project, base.covariance)
        check_encoder(covariance, base)
        matrix = covariance.matrix[:12] if covariance.matrix else "unreadable"
        yield _finding(
            "covariance", "ok", f"{covariance.path}, file {covariance.digest[:12]}, matrix {matrix}"
        )
    except PerfError as error:
        if project.manifest.concepts and not needs_covariance(project):
            yield _finding("covariance", "note", f"{error.what}; no concept here needs one", error.hint)
        else:
            yield _broken("covariance", error)


def _lock(project: ProjectFolder) -> Iterator[Finding]:
    from perfusion_registry.resolve.root_requirements import local_concepts
    from perfusion_registry.resolve.staleness import base_unmet, unmet

    if not project.manifest_path.is_file():
        yield _finding("lockfile", "ok", f"{LOCKFILE_NAME} alone, without a {MANIFEST_NAME}")
        return
    try:
        stale = unmet(project, local_concepts(project)) + base_unmet(project)
    except PerfError as error:
        yield _broken("lockfile", error)
        return
    if project.lockfile is None:
        yield _finding("lockfile", "note", "there is none yet", "run `perf lock`")
    elif stale:
        yield _finding("lockfile", "broken", "; ".join(stale[:3]), "run `perf lock`")
    else:
        yield _finding("lockfile", "ok", f"current, {len(project.lockfile.concepts)} locked")


def _artifacts(project: ProjectFolder, store: Store) -> Iterator[Finding]:
    """Whether the store has what is locked; what is missing is no defect, what is damaged is."""
    blocks = project.lockfile.concepts if project.lockfile else ()
    wanted = [block for block in blocks if block.sha256 and (block.registry or block.kind == "concept")]
    damaged = [
        one.name
        for one in wanted
        if store.path(one.sha256 or "").is_file() and not store.has(one.sha256 or "")
    ]
    missing = [one.name for one in wanted if not store.path(one.sha256 or "").is_file()]
    if damaged:
        text = f"damaged in the store: {', '.join(damaged[:5])}"
        yield _finding(
            "artifacts", "broken", text, "run `perf cache verify`, then `perf sync` or `perf build`"
        )
    elif missing:
        text = f"not in this store: {', '.join(missing[:5])}"
        yield _finding("artifacts", "note", text, "run `perf sync`, or `perf build`")
    elif wanted:
        yield _finding("artifacts", "ok", f"{len(wanted)} in the store, whole")


def _git(project: ProjectFolder) -> Iterator[Finding]:
    """Whether the lockfile is shared, where it names what others can fetch, and what is drawn is not."""
    git = shutil.which("git")
    if git is None:
        return

    def runs(*arguments: str) -> bool:
        command = [git, "-C", str(project.root), *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if not runs("rev-parse", "--is-inside-work-tree"):
        return
    ignored = runs("check-ignore", "-q", LOCKFILE_NAME)
    blocks = project.lockfile.concepts if project.lockfile else ()
    shared = bool(project.manifest.registries) or any(block.registry for block in blocks)
    written = [folder for folder in WRITTEN if not runs("check-ignore", "-q", f"{folder}x.png")]
    if ignored and shared:
        text = f"{LOCKFILE_NAME} is ignored, so nobody else gets these bytes"
        yield _finding("git", "note", text, f"take {LOCKFILE_NAME} out of .gitignore and commit it")
    elif written:
        text = f"what perf writes to {' and '.join(written)} would be committed"
        lines = " and ".join(f"`{folder}`" for folder in written)
        yield _finding("git", "note", text, f"add {lines} to .gitignore")
    elif ignored:
        text = (
            f"{LOCKFILE_NAME} is ignored: all that it names is built on each machine, and no registry has it"
        )
        yield _finding("git", "ok", text)
    else:
        yield _finding("git", "ok", f"{LOCKFILE_NAME} is shared, {' and '.join(WRITTEN)} are not")


def _registries(workspace: Workspace, project: ProjectFolder, *, online: bool) -> Iterator[Finding]:
    registries = project.manifest.registries
    sources = workspace.registries_at(project.root, registries)
    for name, url in sorted(registries.items()):
        if not online and "://" in url:
            yield _finding(f"registry {name}", "ok", f"{url}, not asked (--online asks)")
            continue
        try:
            entries = sources.registry(url).catalogue()
        except PerfError as error:
            yield _broken(f"registry {name}", error)
        else:
            yield _finding(f"registry {name}", "ok", f"{url}, {count(len(entries), 'concept')}")
