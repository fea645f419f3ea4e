"""Why a lockfile is no longer that of its manifest and recipes: told from the files, asking no registry."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from perfusion_registry.base.embedded import REINSTALL
from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.recipe import LockedConcept, Lockfile
from perfusion_registry.recipe.base_section import BaseSection
from perfusion_registry.recipe.lockfile import LockedBase
from perfusion_registry.resolve.base import BaseFacts, judges_differ, other_edition
from perfusion_registry.resolve.project import ProjectFolder, said_of_base
from perfusion_registry.resolve.requirement import Requirement
from perfusion_registry.resolve.root_requirements import key_path, reachable
from perfusion_registry.resolve.sources import LocalConcept


def unmet(project: ProjectFolder, local: Mapping[str, LocalConcept]) -> list[str]:
    """What the lockfile does not fulfil of the project's requirements, a sentence each.

    local: what the recipes declare. Whether images or options changed since is `changes_of`'s to tell.
    """
    lock = project.lockfile or Lockfile()
    blocks = {block.name: block for block in lock.concepts}
    reasons = []
    known: set[str | None]
    for name, entry in sorted(project.manifest.concepts.items()):
        block = blocks.get(name)
        if block is None:
            reasons.append(f"`{name}` is not locked yet")
        elif entry.recipe is not None:
            reasons += _local(block, local[name])
        else:
            place = project.manifest.registries.get(entry.registry) if entry.registry else None
            known = {place} if place else set(project.manifest.registries.values())
            reasons += _unlike(
                block, Requirement(name, entry.version or "", None, key_path(project, name)), known
            )
    for block in lock.concepts:
        own = local.get(block.name)
        origin = f"{own.where}, pack.requires" if own else f"{block.name} {block.version}"
        wanted = own.requires if own else block.requires
        for name, constraint in wanted.items():
            needed = blocks.get(name)
            if needed is None:
                reasons.append(f"`{name}` is not locked, and {origin} asks for it")
                continue
            if name in local:
                known = {None}
            elif own:
                known = set(project.manifest.registries.values())
            else:
                known = {block.registry}
            reasons += _unlike(needed, Requirement(name, constraint, None, origin), known)
    requires = [
        block.model_copy(update={"requires": dict(local[block.name].requires)})
        if block.name in local
        else block
        for block in lock.concepts
    ]
    needed_names = reachable(project.manifest.concepts, requires)
    reasons += [f"`{name}` is needed no longer" for name in blocks if name not in needed_names]
    return list(dict.fromkeys(reasons))


EDITED = "[base] in perfusion.toml was edited since the base was locked"


def base_unmet(project: ProjectFolder) -> list[str]:
    """How the locked base is not the one that the manifest names; its bytes are `changes_of`'s to compare."""
    named = project.manifest.project.base
    base = project.lockfile.base if project.lockfile else None
    if base is None:
        return ["the base is not locked"]
    revisions = (named, named.partition("@")[0]) if base.revision else (named,)
    if base.repo in revisions and ("@" not in named or _revision_fits(named, base.revision)):
        return [] if asked_as_locked(project) else [EDITED]
    return [f"the base is {named}, and {base.repo} is locked"]


def asked_as_locked(project: ProjectFolder) -> bool:
    """Whether `[base]` says what it said when it was locked."""
    manifest, base = project.manifest.base, project.lockfile.base if project.lockfile else None
    if manifest.without_prediction != ((base.options if base else None) or BaseSection()):
        return False
    asked = BaseSection(prediction=manifest.prediction, zero_terminal_snr=manifest.zero_terminal_snr)
    locked = said_of_base(base.prediction if base else None, None)
    if BaseSection() in (asked, locked):
        return asked == locked
    # What is left out is as the file says, which the lockfile repeats.
    return all(value in (None, getattr(locked, key)) for key, value in asked.model_dump().items())


def base_differs(locked: LockedBase | None, base: BaseFacts) -> tuple[str, str] | None:
    """How the base here is not the locked one, and what to do; None where it is, or none is locked."""
    if locked is None:
        return None
    same_judges = not judges_differ(locked, base) and locked.options == base.options_asked
    if locked.digest == base.digest and same_judges:
        return None
    edited = (locked.options or BaseSection()) != (base.options_asked or BaseSection())
    here, there = (
        {(f.part, f.path): f.sha256 for f in files if not (edited and f.part)}
        for files in (base.files, locked.files)
    )
    other = [path for part, path in {**there, **here} if here.get((part, path)) != there.get((part, path))]
    edition = other_edition(locked, base)
    if edition is not None:
        return edition.locked, f"{edition.hint}, or `perf lock` to take the installed one"
    if other:
        what = f"its files are not those locked: {', '.join(other[:3])}"
        restore = REINSTALL if base.repo == EMBEDDED and not edited else "restore the files"
        return what, f"{restore}, or `perf lock` to take these"
    if edited:
        return f"{EDITED}: {_edits(locked.options, base.options_asked)}", "take the edit back, or `perf lock`"
    if locked.prediction == base.prediction_asked:
        what = "perf now tells otherwise what it predicts than when it was locked"
        return what, "say it under [base] in perfusion.toml, or `perf lock` and build again"
    said = [prediction or "nothing" for prediction in (base.prediction_asked, locked.prediction)]
    what = f"{EDITED}: it says {said[0]}, and said {said[1]}"
    return what, "take the edit back, or `perf lock` and build again"


def _edits(before: BaseSection | None, after: BaseSection | None) -> str:
    """Which keys say something else."""
    was, now = (said or BaseSection() for said in (before, after))
    keys = [key for key in BaseSection.model_fields if getattr(was, key) != getattr(now, key)]
    return ", ".join(f"`{key}`" for key in keys)


def covariance_unmet(project: ProjectFolder) -> list[str]:
    """How the covariance file that the manifest names, where it names one, is not the locked covariance."""
    named = project.manifest.project.covariance
    if named is None:
        return []
    locked = project.lockfile.covariance if project.lockfile else None
    if locked is None:
        return ["the covariance is not locked"]
    path = project.root / named
    if path.is_file() and sha256_of(path) == locked.sha256:
        return []
    return [f"the covariance is {named}, and another is locked"]


def _revision_fits(named: str, locked: str | None) -> bool:
    """Whether the locked commit may be what the manifest names: a branch or tag may stand for any."""
    wanted = named.rpartition("@")[2]
    return not re.fullmatch("[0-9a-f]{40}", wanted) or wanted == locked


def _local(block: LockedConcept, recipe: LocalConcept) -> list[str]:
    if block.registry is not None:
        return [f"`{block.name}` is locked from {block.registry}, and the manifest has a recipe for it"]
    if block.kind != recipe.kind:
        return [f"`{block.name}` is locked as a {block.kind}, and {recipe.where} is a {recipe.kind}"]
    if block.version != recipe.version:
        return [f"`{block.name}` is locked at {block.version}, and {recipe.where} is {recipe.version}"]
    return []


def _unlike(block: LockedConcept, requirement: Requirement, known: Collection[str | None]) -> list[str]:
    """How a locked version is not what is asked for. known: the registries that it may come from."""
    reasons = []
    if block.registry not in known:
        source = block.registry or "a recipe"
        wanted = " or ".join(sorted(place or "a recipe" for place in known)) or "no registry"
        reasons.append(f"`{block.name}` is locked from {source}, and {requirement.origin} means {wanted}")
    if not requirement.admits(block.version):
        reasons.append(
            f"`{block.name}` is locked at {block.version}, "
            f"and {requirement.origin} asks for {requirement.constraint}"
        )
    return reasons
