"""`perf add studio/teddy`: a concept of a registry, checked before it is written down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import Manifest, canonical_name
from perfusion_registry.recipe.document import parse_toml, read_text, validate
from perfusion_registry.recipe.editing import add_concept, add_registry
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.resolve import Project

if TYPE_CHECKING:
    from perfusion_registry.resolve.candidates import Candidate


def add_from_registry(
    name: str,
    version: str | None,
    registry: str | None,
    start: Path | None,
    *,
    offline: bool,
    as_json: bool,
) -> None:
    """Write `name` into the manifest, if its registry has a version that fits; say what was written.

    name: `NAME` or `REGISTRY/NAME`. registry: a name of `[registries]`, or an address to write there. Without
    a version, the constraint is the newest one that fits, up to the next that may break with it.
    """
    from perfusion_registry.cli import console

    project = Project.find(start)
    prefix, slash, bare = name.rpartition("/")
    folded = canonical_name(bare)
    if folded in project.manifest.concepts:
        raise PerfError(
            f"there is a concept `{folded}` already",
            where=str(project.manifest_path),
            hint=f"edit its entry, or run `perf remove {folded}` first",
        )
    where = str(project.manifest_path)
    text = read_text(project.manifest_path, "manifest")
    chosen = _registry(project, prefix if slash else None, registry)
    if chosen is not None and chosen[1] is not None:
        text = add_registry(text, chosen[0], chosen[1], where)
    entry = {"version": version or ""}  # in the order in which they are written
    if chosen is not None:
        entry["registry"] = chosen[0]
    candidate = _resolved(project, add_concept(text, folded, entry, where), folded, offline=offline)
    entry["version"] = version if version is not None else compatible(candidate.version)
    replace_text(project.manifest_path, add_concept(text, folded, entry, where))
    if as_json:
        said = {"name": folded, "recipe": None, **entry, "resolved": candidate.version}
        console.say_json("perf.add/1", said)
        return
    console.say(f"Added {folded} {entry['version']}, at present {candidate.version}")
    console.say("Next: perf sync")


def compatible(version: str) -> str:
    """The constraint that lets in a version and what follows it without a breach: `>=1.2.0,<2`."""
    from packaging.version import Version

    parsed = Version(version)
    epoch = f"{parsed.epoch}!" if parsed.epoch else ""
    release = (*parsed.release, 0, 0)
    upper = f"{release[0] + 1}" if release[0] else f"0.{release[1] + 1}"
    return f">={parsed.public},<{epoch}{upper}"


def _registry(project: Project, prefix: str | None, given: str | None) -> tuple[str, str | None] | None:
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


def _is_address(project: Project, text: str) -> bool:
    """Whether this is a registry's address and not its name in the manifest."""
    if text in project.manifest.registries:
        return False
    return "/" in text or "\\" in text or (project.root / text).is_dir()


def _resolved(project: Project, text: str, name: str, *, offline: bool) -> Candidate:
    """What the new entry resolves to beside all that the project has."""
    from perfusion_registry.cli.planning import survey_of
    from perfusion_registry.cli.registries import sources_of
    from perfusion_registry.resolve.choice import choose

    where = str(project.manifest_path)
    manifest = validate(
        parse_toml(text, where, "manifest"), Manifest, text=text, where=where, kind="manifest"
    )
    wished = Project(project.root, manifest, project.lockfile)
    sources = sources_of(manifest.registries, project.root, offline=offline)
    return choose(wished, survey_of(wished, names=[], offline=offline).plan, sources)[name]
