"""The choice of versions for a project: from its manifest, packs, lockfile and registries."""

from __future__ import annotations

from collections.abc import Collection

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import LockedConcept
from perfusion_registry.registries.release import Release
from perfusion_registry.resolve.base import base_change
from perfusion_registry.resolve.candidates import Candidate, CandidateFinder
from perfusion_registry.resolve.covariance import covariance_differs
from perfusion_registry.resolve.planning import Plan
from perfusion_registry.resolve.platform import Platform
from perfusion_registry.resolve.project import ProjectFolder
from perfusion_registry.resolve.resolution import resolve
from perfusion_registry.resolve.root_requirements import local_concepts, root_requirements
from perfusion_registry.resolve.sources import Sources
from perfusion_registry.resolve.staleness import unmet


def choose(
    project: ProjectFolder,
    plan: Plan,
    sources: Sources,
    *,
    upgrade: bool | Collection[str] = False,
    lowest: bool = False,
) -> dict[str, Candidate]:
    """Resolve everything that the project requires; what is locked stays while it fits.

    upgrade: the names, or all, whose locked versions do not count. lowest: the oldest versions that fit, the
    lockfile aside. Raises PerfError with an explanation where no choice fits.
    """
    blocks = project.lockfile.concepts if project.lockfile else ()
    locked = {block.name: block for block in blocks if block.registry is not None}
    bound = {name: block.registry or "" for name, block in locked.items()}
    if lowest or upgrade is True:
        locked = {}
    elif upgrade:
        locked = {name: block for name, block in locked.items() if name not in upgrade}
    finder = CandidateFinder(
        sources, local_concepts(project), platform_of(plan), preferred=locked, bound=bound, lowest=lowest
    )
    chosen = resolve(root_requirements(project, finder), finder)
    for block in blocks:
        listing = chosen[block.name].listing if block.name in chosen else None
        if listing is not None and block.registry is not None:
            check_bytes(listing.release, block, sources.called(chosen[block.name].place or ""))
    return chosen


def check_bytes(release: Release, block: LockedConcept, registry: str) -> None:
    """Raise PerfError where a registry has other bytes for the version that is locked."""
    if release.version == block.version and release.sha256 != block.sha256:
        raise PerfError(
            f"`{registry}` has other bytes for {block.name} {block.version} "
            f"({release.sha256[:12]}) than the lockfile ({(block.sha256 or '')[:12]})",
            where=block.source,
            hint=f"ask its keeper why; `perf remove {block.name}` forgets the locked bytes",
        )


def platform_of(plan: Plan) -> Platform:
    """What releases must have been built for."""
    matrix = plan.covariance.matrix if plan.covariance is not None else None
    return Platform(plan.base.repo, plan.base.family, matrix, plan.base.architecture)


def must_choose(project: ProjectFolder, plan: Plan) -> list[str]:
    """Why the versions have to be chosen anew, a sentence each; empty where the lockfile has them.

    What `differences` tells too, it tells in the same words.
    """
    reasons = unmet(project, local_concepts(project))
    lock = project.lockfile
    if lock is not None and any(block.registry is not None for block in lock.concepts):
        if lock.base is None or lock.base.family != plan.base.family:
            reasons.append(base_change(lock.base, plan.base) if lock.base else "the base is not locked")
        if covariance_differs(lock.covariance, plan.covariance):
            reasons.append("the covariance changed" if lock.covariance else "the covariance is not locked")
    return reasons
