"""What resolution needs to know of a base, whoever describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


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
    def licence(self) -> str | None:
        """Its licence, as the model card beside its weights tells it."""

    @property
    def card(self) -> CardFacts:
        """Its defaults."""
