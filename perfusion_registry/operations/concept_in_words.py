"""What a concept and a release say of themselves, in words: a text by its label, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfusion_registry.amounts import size
from perfusion_registry.operations.info import InfoResult
from perfusion_registry.registries.release import Release
from perfusion_registry.trust import fingerprint

_TOLD_OTHERWISE = frozenset(
    {"schema", "name", "version", "registry", "locked", "versions", "preview", "rating"}
)


def concept_in_words(result: InfoResult, *, saved: Path | None = None) -> dict[str, str]:
    """What there is to say of a concept, each text one line. saved: where its preview is now."""
    told = {
        key: _text(value)
        for key, value in result.printed().items()
        if value not in (None, [], {}) and key not in _TOLD_OTHERWISE and key not in result.render
    }
    if result.verdict is not None:
        told["verdict"] = _text(result.verdict.in_words)
    if result.imported is not None:
        file = result.imported
        told["imported"] = f"{_text(file.file)} ({file.dialect}, {size(file.size)}), SHA-256 {file.sha256}"
    if result.kind == "pack":
        told["kind"] = "scene pack"
        told.pop("method", None)  # which draws its concepts, and is theirs
    if result.covariance is not None:
        told["covariance"] += " (of its matrix; perfusion.lock has its file's)"
    if result.similarity is not None:
        told["similarity"] += " (of its own word to it, in the prompts that it was learned with; around 1)"
    if result.energy is not None:
        told["energy"] += " (how much of what was learned it keeps, by squared numbers)"
    if result.size is not None:
        told["size"] = size(result.size)
    if result.signed_by is not None:
        told["signed_by"] = fingerprint(result.signed_by)
    if saved is not None:
        told["preview"] = f"saved as {saved}"
    elif result.preview is not None:
        told["preview"] = f"{size(result.preview.size)}, --preview FILE saves it"
    if result.registry is not None:
        told["registry"] = result.registry
        told["versions"] = ", ".join(
            f"{row.version}{' (yanked)' if row.yanked else ''}" for row in result.versions
        )
    if result.locked is not None:
        told["locked"] = result.locked
    return {key.replace("_", " "): text for key, text in told.items()}


def release_in_words(release: Release) -> dict[str, str | None]:
    """Everything that others will read of a release, and what they may miss; None where nothing is said."""
    requires = ", ".join(f"{need.name} {need.version}".strip() for need in release.requires)
    return {
        "description": release.description,
        "kind": kind_in_words(release),
        "requires": requires or None,
        "render": options_in_words(release.render),
        "licence": release.licence,
        "authors": ", ".join(release.authors),
        "consent": release.consent or ("nothing said" if release.kind == "concept" else None),
        "base": release.base,
        "base licence": release.base_licence or ("unknown" if release.base else None),
        "size": size(release.size),
        "sha256": release.sha256,
        "preview": f"{size(release.preview.size)}, a JPEG" if release.preview else None,
        "signed by": fingerprint(release.signature.key) if release.signature else None,
    }


def kind_in_words(release: Release) -> str:
    """What a release is: a scene pack, or what kind of concept."""
    if release.kind == "pack":
        return "scene pack"
    return f"concept, a kind of {release.supercategory}" if release.supercategory else "concept, a style"


def options_in_words(values: Mapping[str, object]) -> str:
    """Options and their values in one line: `bias 0.65, key lock local`."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())


def _text(value: Any) -> str:
    """A value on one line: what others wrote must not pass for lines of perf's own."""
    if isinstance(value, dict):
        return " ".join(options_in_words(value).split())
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return " ".join(text.split())
