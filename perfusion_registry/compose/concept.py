"""Concepts at hand: what the calls of a prompt refer to, found in the project and its store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perfusion_registry.artifact import Artifact, Store, load_artifact, save_artifact
from perfusion_registry.compose.caret import under
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.prompt import Call, Prompt, braces
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.settings import Settings
from perfusion_registry.methods.table import UnknownMethodError, find_method
from perfusion_registry.recipe import LockedConcept
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.suggestions import did_you_mean


@dataclass(frozen=True)
class Concept:
    """An artifact with what the project says of it.

    sha256: of the artifact's bytes. locked: what the lockfile sets; what it does not is as the card has it.
    """

    artifact: Artifact
    sha256: str
    locked: Settings = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name that prompts call."""
        return self.artifact.card.name


def find_concepts(
    prompt: Prompt, project: ProjectFolder, store: Store, given: Mapping[str, Concept] | None = None
) -> dict[str, Concept]:
    """Return the built concepts that `prompt` calls, by name, as the project's lockfile has them.

    given: concepts that stand in for those of the project, by name.

    Raises PerfError, with a caret under the call, for a concept that the project does not have, one that is
    not built, one whose bytes this machine's store does not have, and, as `braces` does, for options that its
    method does not take. Nothing is ever built here.
    """
    concepts: dict[str, Concept] = dict(given or {})
    wanted: dict[str, tuple[LockedConcept, str, str]] = {}
    for call in prompt.calls:
        if call.name not in concepts and call.name not in wanted:
            wanted[call.name] = _locked(prompt, call, project, store)
            _check_braces(prompt, call.name, wanted[call.name][0].method)
    for name, (block, sha256, where) in wanted.items():  # only now torch is imported
        artifact = _stored(store, sha256, f"{name} {block.version}", where)
        if artifact.card.name != name:
            raise PerfError(
                f"the lockfile's artifact for {name!r} says that it is {artifact.card.name!r}",
                where=f"{project.lockfile_path}, concept {name}",
                hint=f"run `perf build {name}`",
            )
        concepts[name] = Concept(artifact, sha256, locked_settings(block))
    return concepts


def locked_settings(block: LockedConcept) -> Settings:
    """What the lockfile sets of how a concept is drawn; nothing of one whose method is not here."""
    try:
        return find_method(block.method).locked_settings(block.render, block.name)
    except UnknownMethodError:
        return {}


def _check_braces(prompt: Prompt, name: str, method: str) -> None:
    """Raise PerfError, with a caret, for options that a method does not take. One that is not here is no
    mistake of the prompt's."""
    try:
        known = find_method(method)
    except UnknownMethodError:
        return
    braces(prompt, name, known)


def _locked(
    prompt: Prompt, call: Call, project: ProjectFolder, store: Store
) -> tuple[LockedConcept, str, str]:
    """The block of a called concept, the digest of its artifact, and the place of the call."""
    name = call.name
    locked = project.lockfile.concept(name) if project.lockfile else None
    entry = project.manifest.concepts.get(name)
    if locked is None and entry is None:
        raise unknown_concept(prompt, call, _callable(project))
    where = under(prompt.source, call.span)
    if locked is None and entry is not None and entry.recipe is None:
        raise PerfError(f"{name!r} is not locked yet", where=where, hint="run `perf sync`")
    if locked is not None and locked.kind == "pack":
        raise PerfError(
            f"{name!r} is a scene pack, not a concept",
            where=where,
            hint=f"draw one of its scenes: --scene {name}/SCENE",
        )
    if locked is None or locked.sha256 is None:
        raise PerfError(f"{name!r} is not built yet", where=where, hint=f"run `perf build {name}`")
    if locked.registry is not None and not store.path(locked.sha256).is_file():
        raise PerfError(
            f"{name!r} {locked.version} is not in this machine's store",
            where=where,
            hint="run `perf sync`",
        )
    return locked, locked.sha256, where


def concepts_of_files(files: Sequence[Path], called: Collection[str], store: Store) -> dict[str, Concept]:
    """Return the concepts of artifact files by their names, and put their bytes into the store.

    So a picture or composition, which names them by hash, can be drawn again. Raises PerfError for a file
    that is no artifact, one whose concept is not among the `called`, and two of one name.
    """
    concepts: dict[str, Concept] = {}
    for path in files:
        artifact = load_artifact(path)
        name = artifact.card.name
        if name in concepts:
            raise PerfError(f"two files hold a concept {name!r}", where=str(path), hint="give one of them")
        if name not in called:
            raise PerfError(
                f"the prompt does not call {name!r}, the concept of this file",
                where=str(path),
                hint=f"it calls {', '.join(called) or 'no concept'}",
            )
        concepts[name] = Concept(artifact, store.put(save_artifact(artifact)))
    return concepts


def _callable(project: ProjectFolder) -> list[str]:
    """The names that prompts may call, those that scene packs brought along among them."""
    blocks = project.lockfile.concepts if project.lockfile else ()
    packs = {block.name for block in blocks if block.kind == "pack"}
    return sorted({*project.manifest.concepts, *(block.name for block in blocks)} - packs)


def stored_artifacts(composition: Composition, store: Store) -> dict[str, Artifact]:
    """Return the artifacts that a composition names by digest, by concept name; it needs no project."""
    return {
        concept.name: _stored(store, concept.sha256, f"{concept.name} {concept.version}", None)
        for concept in composition.concepts
    }


def unknown_concept(prompt: Prompt, call: Call, known: Sequence[str]) -> PerfError:
    """The error for a call of a concept that is not among the `known` names."""
    otherwise = (
        f"the project's concepts are {', '.join(sorted(known))}"
        if known
        else f"add it with `perf add {call.name} --super WORD --images FILES`"
    )
    hint = did_you_mean(call.name, known, otherwise, form="{}*", most=3)
    return PerfError(
        f"there is no concept {call.name!r} here",
        where=under(prompt.source, call.span),
        hint=f"{hint}; write \\* for a plain star",
    )


def _stored(store: Store, sha256: str, what: str, where: str | None) -> Artifact:
    path = store.path(sha256)
    if not path.is_file():
        raise PerfError(
            f"the artifact of {what} ({sha256[:12]}) is not in this machine's store",
            where=where or str(path),
            hint=f"run `perf build {what.split()[0]}` in its project",
        )
    return load_artifact(store.get(sha256))
