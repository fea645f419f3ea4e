"""What resolution needs to know of a base, whoever describes it, and what of it a lockfile tells apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from perfusion_registry.base.digest import folder_digest
from perfusion_registry.base.embedded import AnotherEdition, another_edition
from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.recipe.base_section import BaseSection
from perfusion_registry.recipe.lockfile import LockedBase, Part


class FileFacts(Protocol):
    """One file of a base."""

    @property
    def path(self) -> str:
        """Its path inside the base's folder."""

    @property
    def sha256(self) -> str:
        """The digest of its bytes."""

    @property
    def size(self) -> int:
        """Its size in bytes."""

    @property
    def part(self) -> Part | None:
        """What it is to the base, where `[base]` names it."""


class CardFacts(Protocol):
    """The defaults that a base declares."""

    @property
    def train(self) -> Mapping[str, Any]:
        """Training defaults, keyed as in a recipe."""

    @property
    def render(self) -> Mapping[str, Any]:
        """Render defaults, keyed as in a recipe."""


class BaseFacts(Protocol):
    """What a plan needs to know of a base; `describe_base` returns such a thing."""

    @property
    def repo(self) -> str:
        """Where it comes from."""

    @property
    def revision(self) -> str | None:
        """The commit of a hub model."""

    @property
    def files(self) -> Sequence[FileFacts]:
        """What it is made of."""

    @property
    def digest(self) -> str:
        """The digest of its files."""

    @property
    def architecture(self) -> str:
        """Its kind, as `base.architectures` names it."""

    @property
    def family(self) -> str:
        """The family that its concepts transfer within."""

    @property
    def prediction_asked(self) -> str | None:
        """What was said of a base in one file, as a lockfile says it."""

    @property
    def options_asked(self) -> BaseSection | None:
        """What else `[base]` says, as a lockfile has it."""

    def training_digest(self, prompts: Iterable[str]) -> str:
        """The digest of all of it that a concept depends on that is learned by these prompts."""

    @property
    def licence(self) -> str | None:
        """Its licence, as the model card beside its weights tells it."""

    @property
    def card(self) -> CardFacts:
        """Its defaults."""


def own_files(base: BaseFacts | LockedBase) -> list[FileFacts]:
    """Its files but those that `[base]` names."""
    return [file for file in base.files if file.part is None]


def other_edition(locked: LockedBase, base: BaseFacts | LockedBase) -> AnotherEdition | None:
    """The edition of Storybook that is locked, where `base`, which is here, is another; None where it is no
    Storybook, and where it differs for another reason."""
    if not locked.repo == base.repo == EMBEDDED:
        return None
    there, here = (_own_digest(one) for one in (locked, base))
    return another_edition(there) if there != here else None


def _own_digest(base: BaseFacts | LockedBase) -> str:
    files = own_files(base)
    return folder_digest(sorted((f.path, f.sha256) for f in files)) if files else base.digest


def base_change(locked: LockedBase, base: BaseFacts | LockedBase) -> str:
    """That the base is not the locked one, and which is, in words."""
    edition = other_edition(locked, base)
    if edition is None:
        return "the base changed"
    return f"the base changed: {edition.locked} ({edition.hint} brings the other)"


def judges_differ(locked: LockedBase, base: BaseFacts) -> bool:
    """Whether what scores and what masks pictures are other than when the base was locked."""
    judges = ("scorer", "segmenter")
    here, there = (
        {(file.part, file.sha256) for file in files if file.part in judges}
        for files in (base.files, locked.files)
    )
    return here != there
