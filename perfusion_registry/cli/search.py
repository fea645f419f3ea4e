"""`perf search` and `perf info`: what registries have, and what a concept says of itself."""

from __future__ import annotations

from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.facts import say_facts, values_said
from perfusion_registry.cli.help import argument, option
from perfusion_registry.cli.options import Common, ForceOption, OfflineOption, RegistryOption
from perfusion_registry.cli.spread import spread

if TYPE_CHECKING:
    from perfusion_registry.operations.info import InfoResult


@spread
def search(
    common: Common,
    words: Annotated[
        list[str] | None, argument("WORD", "Words that must all be there.", default="everything")
    ] = None,
    registry: RegistryOption = None,
    offline: OfflineOption = False,
) -> None:
    """Find concepts and scene packs in the project's registries."""
    from perfusion_registry.operations.search import search as run

    with common.open(offline=offline, lockfile_alone=True, optional=True) as workspace:
        result = run(workspace, words or (), registry=registry)
    if common.as_json:
        console.say_result(result)
        return
    for problem in result.problems:
        console.reporter().warn(problem)
    if not result.concepts:
        console.say("Nothing found")
        return
    cells = [
        [
            f"{row.registry}/{row.name}",
            row.version,
            "scene pack" if row.kind == "pack" else row.supercategory or "",
            row.licence or "",
            row.consent or "",
            "yes" if row.preview else "",
            row.description or "",
        ]
        for row in result.concepts
    ]
    columns = ["concept", "version", "super", "licence", "consent", "preview", "description"]
    said = [any(texts) or column not in _SELDOM for column, *texts in zip(columns, *cells, strict=True)]
    console.say_table([*compress(columns, said)], [[*compress(row, said)] for row in cells])


_SELDOM = ("consent", "preview")
"""Columns that are left out where no concept has any of it."""


@spread
def info(
    common: Common,
    name: Annotated[str, argument("[REGISTRY/]NAME[==VERSION]", "The concept.")],
    registry: RegistryOption = None,
    preview: Annotated[Path | None, option("FILE", "Save its preview picture, a JPEG.")] = None,
    force: ForceOption = False,
    offline: OfflineOption = False,
) -> None:
    """Show what a concept says of itself, and its versions."""
    from perfusion_registry.operations.info import info as run

    spelt, _, version = name.partition("==")
    prefix, slash, bare = spelt.rpartition("/")
    registry = registry or (prefix if slash else None)
    with common.open(offline=offline, lockfile_alone=True, optional=True) as workspace:
        result = run(
            workspace,
            bare.removesuffix("*"),
            version=version or None,
            registry=registry,
            preview=preview,
            force=force,
        )
    if common.as_json:
        console.say_result(result)
        return
    console.say(f"{result.name} {result.version}")
    say_facts({key.replace("_", " "): text for key, text in _told(result, saved=preview).items()})


def _told(result: InfoResult, *, saved: Path | None) -> dict[str, str]:
    """What there is to say, by key. saved: where its preview is now."""
    from perfusion_registry.trust import fingerprint

    told = {}
    for key, value in result.printed().items():
        if value in (None, [], {}) or key in _ELSEWHERE or key in result.render:
            continue
        if key == "verdict" and result.verdict is not None:
            told[key] = _one_line(result.verdict.sentence)
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if isinstance(value, dict):
            text = values_said(value)
        told[key] = _one_line(text)
    if result.kind == "pack":
        told["kind"] = "scene pack"
        told.pop("method", None)  # which draws its concepts, and is theirs
    if result.covariance is not None:
        told["covariance"] += " (of its matrix; perfusion.lock has its file's)"
    if result.similarity is not None:
        told["similarity"] += " (of its own word to it, in the prompts that it was learned with)"
    if result.size is not None:
        told["size"] = console.size(result.size)
    if result.signed_by is not None:
        told["signed_by"] = fingerprint(result.signed_by)
    if saved is not None:
        told["preview"] = f"saved as {saved}"
    elif result.preview is not None:
        told["preview"] = f"{console.size(result.preview.size)}, --preview FILE saves it"
    if result.registry is not None:
        told["registry"] = result.registry
        told["versions"] = ", ".join(
            f"{row.version}{' (yanked)' if row.yanked else ''}" for row in result.versions
        )
    if result.locked is not None:
        told["locked"] = result.locked
    return told


_ELSEWHERE = frozenset({"schema", "name", "version", "registry", "locked", "versions", "preview"})
"""The keys that are told otherwise."""


def _one_line(text: str) -> str:
    """What others wrote must not pass for lines of perf's own."""
    return " ".join(text.split())
