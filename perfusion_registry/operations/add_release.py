"""`add REGISTRY/NAME`: take a concept from a registry, or the recipe that is there already."""

from __future__ import annotations

from dataclasses import dataclass

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.add import AddResult, add_recipe, has_unlisted_recipe, project_with
from perfusion_registry.operations.plan import plan_of
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import canonical_name
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.editing import add_concept, add_registry
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.candidates import Candidate
from perfusion_registry.resolve.choice import choose


@dataclass(frozen=True, kw_only=True)
class AddReleaseOptions:
    """A concept of a registry.

    name: NAME, or REGISTRY/NAME. version: the constraint; None for the newest that fits, up to the next that
    may break with it. registry: a name of `[registries]`, or an address to write there under REGISTRY.
    """

    name: str
    version: str | None = None
    registry: str | None = None


def add_existing(workspace: Workspace, options: AddReleaseOptions) -> AddResult:
    """Write what there is under a name into the manifest: the recipe that the manifest does not list yet,
    where neither a registry nor a version is said; else a concept of a registry."""
    named = options.registry is not None or options.version is not None or "/" in options.name
    if not named and has_unlisted_recipe(workspace, options.name):
        return add_recipe(workspace, options.name)
    return add_release(workspace, options)


def add_release(workspace: Workspace, options: AddReleaseOptions) -> AddResult:
    """Write a concept of a registry into the manifest, if the registry has a version that fits."""
    project = workspace.read()
    prefix, slash, bare = options.name.rpartition("/")
    name = canonical_name(bare)
    where = str(project.manifest_path)
    if name in project.manifest.concepts:
        raise PerfError(
            f"there is a concept `{name}` already",
            where=where,
            hint=f"edit its entry, or run `perf remove {name}` first",
        )
    text = read_text(project.manifest_path, "manifest")
    chosen = _registry(project, prefix if slash else None, options.registry)
    if chosen is not None and chosen[1] is not None:
        text = add_registry(text, chosen[0], chosen[1], where)
    entry = {"version": options.version or ""}  # in the order in which they are written
    if chosen is not None:
        entry["registry"] = chosen[0]
    candidate = _resolved(workspace, project, add_concept(text, name, entry, where), name)
    entry["version"] = options.version if options.version is not None else compatible(candidate.version)
    replace_text(project.manifest_path, add_concept(text, name, entry, where), as_it_was=True)
    return AddResult(
        name=name,
        recipe=None,
        version=entry["version"],
        registry=entry.get("registry"),
        resolved=candidate.version,
    )


def compatible(version: str) -> str:
    """The constraint that lets in a version and what follows it without a breach: `>=1.2.0,<2`."""
    from packaging.version import Version

    parsed = Version(version)
    epoch = f"{parsed.epoch}!" if parsed.epoch else ""
    release = (*parsed.release, 0, 0)
    upper = f"{release[0] + 1}" if release[0] else f"0.{release[1] + 1}"
    return f">={parsed.public},<{epoch}{upper}"


def _registry(project: ProjectFolder, prefix: str | None, given: str | None) -> tuple[str, str | None] | None:
    """The registry's name, and its address where it is to be written down; None where nothing is said."""
    known = project.manifest.registries
    if given is None or not _is_address(project, given):
        name = given if given is not None else prefix
        if prefix is not None and given is not None and prefix != given:
            raise PerfError(f"`{prefix}/...` and `--registry {given}` name two registries", hint="choose one")
        if name is None:
            return None
        if name not in known:
            listed = ", ".join(f"`{registry}`" for registry in sorted(known)) or "none yet"
            raise PerfError(
                f"the project has no registry `{name}` (it has {listed})",
                where=f"{project.manifest_path}, registries",
                hint=f"give its address once: `perf add {name}/NAME --registry https://...`",
            )
        return name, None
    same = next((name for name, url in known.items() if url == given), None)
    name = prefix or same
    if name is None:
        raise PerfError(
            "the registry needs a name in perfusion.toml",
            where=f"--registry {given}",
            hint=f"write it before the concept: `perf add studio/NAME --registry {given}`",
        )
    if known.get(name, given) != given:
        raise PerfError(
            f"the project has another registry `{name}`: {known[name]}",
            where=f"{project.manifest_path}, registries.{name}",
            hint="choose another name for the new one",
        )
    return name, given


def _is_address(project: ProjectFolder, text: str) -> bool:
    """Whether this is a registry's address and not its name in the manifest."""
    if text in project.manifest.registries:
        return False
    return "/" in text or "\\" in text or (project.root / text).is_dir()


def _resolved(workspace: Workspace, project: ProjectFolder, text: str, name: str) -> Candidate:
    """What the new entry resolves to beside all that the project has."""
    wished = project_with(project, text)
    sources = workspace.registries_at(project.root, wished.manifest.registries)
    return choose(wished, plan_of(workspace, wished, names=[]).plan, sources)[name]
