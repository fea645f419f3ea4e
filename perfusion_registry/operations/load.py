"""Concepts for a pipeline, with their tensors: from artifact files, from lockfiles, from registries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from perfusion_registry.artifact import load_artifact, save_artifact
from perfusion_registry.cache_folder import expand_user
from perfusion_registry.compose.concept import Concept, locked_settings
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.elsewhere import folder_of, is_remote, read_lockfile, registries_beside
from perfusion_registry.operations.target import find_target
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import LOCKFILE_NAME, canonical_name
from perfusion_registry.registries.download import download
from perfusion_registry.registries.registry import Listing
from perfusion_registry.resolve.candidates import CandidateFinder
from perfusion_registry.resolve.fetch import fetch
from perfusion_registry.resolve.platform import Platform
from perfusion_registry.resolve.requirement import Requirement

SUFFIX = ".safetensors"
_RELEASE = re.compile(r"(?P<name>[A-Za-z0-9_-]+)\*?\s*(?P<constraint>(?:[<>=!~].*)?)")


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What to load, each an artifact's file, a lockfile, or a release of a registry.

    A file's name ends in `.safetensors`. A lockfile is a file, a folder that has one, or an http(s) address;
    all its concepts are loaded. A release is a name with a constraint or without: `teddy`, `teddy>=1.2,<2`.

    platform: what the concepts must have been built for. registry: of releases; its address, or its name in
    the project's manifest; None for the project's own. require_signed: refuse releases that nobody signed.
    """

    sources: tuple[str | Path, ...]
    platform: Platform
    registry: str | None = None
    require_signed: bool = False


def load_concepts(workspace: Workspace, options: LoadOptions) -> dict[str, Concept]:
    """The concepts by their names; what is not in the store is fetched into it.

    Raises PerfError for a source that is none, for one that has no concept of the platform, and for two
    concepts of one name.
    """
    concepts: dict[str, Concept] = {}
    for source in options.sources:
        text = str(source)
        if text.endswith(SUFFIX):
            artifacts = [_of_file(workspace, expand_user(text))]
        elif is_remote(text) or text.endswith(".lock") or expand_user(text).is_dir():
            artifacts = _of_lockfile(workspace, text, options)
        else:
            artifacts = [_of_registry(workspace, text, options)]
        for concept in artifacts:
            if concept.name in concepts:
                raise PerfError(
                    f"two sources have a concept {concept.name!r}", where=text, hint="give one of them"
                )
            concepts[concept.name] = concept
    return concepts


def _of_file(workspace: Workspace, path: Path) -> Concept:
    artifact = load_artifact(path)
    return Concept(artifact, workspace.store.put(save_artifact(artifact)))


def _of_lockfile(workspace: Workspace, source: str, options: LoadOptions) -> list[Concept]:
    if not is_remote(source):
        path = expand_user(source)
        source = str(path / LOCKFILE_NAME if path.is_dir() else path)
    lockfile, _ = read_lockfile(source, offline=workspace.offline)
    store = workspace.store
    blocks = [block for block in lockfile.concepts if block.kind == "concept"]
    missing = [block for block in blocks if block.sha256 is None or not store.has(block.sha256)]
    for block in missing:
        if block.registry is None:
            raise PerfError(
                f"{block.name!r} is not built on this machine, and a lockfile cannot build it",
                where=source,
                hint=f"run `perf build {block.name}` in its project, or publish it",
            )
    if missing:
        sources = registries_beside(workspace, source, lockfile)
        signatures = workspace.signatures(folder_of(source), require=options.require_signed)
        fetch(missing, store, sources, approve=signatures, reporter=workspace.reporter)
        signatures.remember()
    concepts = []
    for block in blocks:
        assert block.sha256 is not None  # else it was missing, and is built or refused
        concepts.append(Concept(load_artifact(store.get(block.sha256)), block.sha256, locked_settings(block)))
    return concepts


def _of_registry(workspace: Workspace, text: str, options: LoadOptions) -> Concept:
    name, constraint = _parsed(text)
    target = find_target(workspace, options.registry)
    sources = workspace.registries_at(target.root, {target.name: target.url})
    finder = CandidateFinder(sources, {}, options.platform)
    requirement = Requirement(name, constraint, target.url, "the program")
    candidate = next(finder.candidates(name, [requirement]), None)
    if candidate is None or candidate.listing is None:
        raise _unavailable(text, target.url, finder, sources.listings(target.url, name), requirement)
    release = candidate.listing.release
    if release.kind != "concept":
        raise PerfError(f"{name!r} is a scene pack, not a concept", where=target.url)
    registry = sources.registry(target.url)
    signatures = workspace.signatures(target.root, require=options.require_signed)
    signatures(registry, release)
    if not workspace.store.has(release.sha256):
        download(registry, release, workspace.store, workspace.reporter)
    signatures.remember()
    artifact = load_artifact(workspace.store.get(release.sha256))
    if artifact.card.name != name:
        raise PerfError(
            f"the bytes of {name!r} say that they are {artifact.card.name!r}",
            where=target.url,
            hint="tell the registry's keeper",
        )
    return Concept(artifact, release.sha256)


def _parsed(text: str) -> tuple[str, str]:
    parts = _RELEASE.fullmatch(text.strip())
    if parts is None:
        raise PerfError(
            f"{text!r} is not a source of concepts",
            hint=f"give a file that ends in {SUFFIX}, a lockfile or its folder, or a name such as teddy>=1.2",
        )
    try:
        SpecifierSet(parts["constraint"])
    except InvalidSpecifier as error:
        raise PerfError(
            f"{parts['constraint']!r} is not a version constraint such as >=1.2,<2 (PEP 440)", where=text
        ) from error
    return canonical_name(parts["name"].lower()), parts["constraint"]


def _unavailable(
    text: str, place: str, finder: CandidateFinder, listings: Sequence[Listing], requirement: Requirement
) -> PerfError:
    """The error for a release that a registry has not, with what it has instead."""
    reasons = []
    for listing in reversed(listings):
        reason = finder.refusal(listing)
        if reason is None and not requirement.admits(listing.version):
            reason = "not what was asked for"
        reasons.append(f"\n  - {listing.version}: {reason}")
    if not reasons:
        return PerfError(f"there is no concept {requirement.name!r} in this registry", where=place)
    return PerfError(f"no release of {text!r} can be taken:{''.join(reasons[:8])}", where=place)
