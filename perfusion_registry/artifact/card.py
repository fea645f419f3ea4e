"""The concept card: what an artifact says about itself, in the header of its file.

In memory a card is always as format 2 has it; `schema_version` says how its file spells it. What was written
as format 1 stays format 1, to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, field_validator
from pydantic_core.core_schema import ValidationInfo

from perfusion_registry.artifact.format1 import Card1
from perfusion_registry.artifact.verdict import Verdict
from perfusion_registry.methods.interface import MOST_VECTORS, Table
from perfusion_registry.methods.perfusion.options import Built
from perfusion_registry.methods.table import find_method, method_hindrance
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, MethodName

CARD_SCHEMA = 2
ARCHITECTURE = "stable-diffusion"
"""The architecture of the base of a card that names none."""
FIRST_PERF = "0.1.0"
"""The first perf that reads cards of format 2."""

Digest = Annotated[str, Field(min_length=1, max_length=200)]


class Unread(FileModel):
    """A table of a method that this perf does not have, kept as it is."""

    model_config = ConfigDict(extra="allow")


class Imported(FileModel):
    """What an imported concept was made from. file: the file's name alone."""

    file: Annotated[str, Field(min_length=1, max_length=400)]
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
    dialect: Annotated[str, Field(min_length=1, max_length=100)]


class TransferSource(FileModel):
    """What a transferred concept was made from: the artifact of another family's base.

    sha256: of the artifact. base, base_licence, family: as its card has them. moved: how far the target input
    went, as a part of its length.
    """

    sha256: Sha256
    base: str
    base_licence: Annotated[str, Field(max_length=200)] | None = None
    family: str
    moved: float | None = None


class ConceptCard(FileModel):
    """One concept version: what it is, what it was built for and with, and how well the kept step scored.

    requires_perf: the lowest perf that can draw it. method: how it was learned and is drawn. supercategory:
    the plain word that stands for its kind; a style has none. word: what a call becomes before it is
    tokenised, where that is not one learned token. vectors: how many learned tokens a call becomes.
    architecture, family: of the bases that it fits. base, base_revision: the base it was trained on.
    base_licence: what the base's own card says, where it says something. recipe_digest: of all inputs of its
    build; None where it was imported. transferred: what it was made from, where it was learned on a base of
    another family. train, render, built: the method's tables: the options of its training,
    what prompts may set with the concept's own values, and what the build found out. scores: similarity
    scores of the kept step by name, such as `image`, `text` and `harmonic`, with what the plain word reaches
    and what its own pictures would, `image_plain` and `image_self`; and the strength that served it best, by
    its field, where the build chose one. verdict: what the build found it good for. preview: the SHA-256 of a
    small picture that belongs to it. No timestamps and no paths: the same inputs give the same bytes.

    preview is a field of the format that nothing writes yet (`docs/formats.md`). A card that calls for
    vectors, for words or as a style by a method without them cannot be called here.
    """

    schema_version: Annotated[int, Field(ge=1, le=CARD_SCHEMA)] = CARD_SCHEMA
    requires_perf: Version | None = None
    name: Name
    version: Version
    method: MethodName = DEFAULT_METHOD
    supercategory: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    word: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    vectors: Annotated[int, Field(ge=1, le=MOST_VECTORS)] = 1
    architecture: Annotated[str, Field(min_length=1, max_length=64)] = ARCHITECTURE
    family: str
    base: str
    base_revision: str | None = None
    base_licence: Annotated[str, Field(max_length=200)] | None = None
    recipe_digest: Sha256 | None = None
    imported: Imported | None = None
    transferred: Annotated[TransferSource | None, Field(exclude_if=lambda made: made is None)] = None
    train: Table
    render: Table
    built: Table
    scores: dict[str, float] = Field(default_factory=dict)
    verdict: Verdict | None = None
    preview: Sha256 | None = None
    licence: str | None = None
    authors: tuple[str, ...] = ()
    consent: str | None = None
    description: str | None = None

    @field_validator("train", "render", "built", mode="before")
    @classmethod
    def _of_the_method(cls, value: Any, info: ValidationInfo) -> Any:
        """The table as the method's own model; as it is where this perf cannot draw the concept anyway."""
        if not isinstance(value, Mapping) or "method" not in info.data or info.field_name is None:
            return value
        if method_hindrance(info.data["method"], info.data.get("requires_perf")) is not None:
            model: type[FileModel] = Unread
        else:
            imported = info.data.get("imported") is not None
            model = find_method(info.data["method"]).table(info.field_name, imported=imported)
        try:
            return model.model_validate_json(json.dumps(value))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"`{key}`: {first['msg']}") from error

    @property
    def covariance(self) -> str | None:
        """The digest of the C whose metric it needs; None for a method without one."""
        digest: str | None = getattr(self.built, "covariance", None)
        return digest

    @property
    def steps_kept(self) -> int | None:
        """The training step that was kept; None where nothing was trained."""
        step: int | None = getattr(self.built, "step", None)
        return step

    @property
    def own_similarity(self) -> float | None:
        """The similarity of Eq. 4 at its own word in the prompts that it was learned with; None where its
        card does not say it.
        """
        similarity: float | None = getattr(self.built, "similarity", None)
        return similarity

    @property
    def energy(self) -> float | None:
        """How much of the squared numbers of what was learned the artifact keeps; None where that is no
        difference."""
        energy: float | None = getattr(self.built, "energy", None)
        return energy

    @property
    def chosen(self) -> str | None:
        """The field of `render` whose value the build tried to choose: its score is what served best."""
        return next((name for name in self.scores if name in type(self.render).model_fields), None)

    @property
    def hindrance(self) -> str | None:
        """Why this perf can neither build nor draw such a concept, as a sentence; None where it can."""
        return method_hindrance(self.method, self.requires_perf)

    @property
    def call_hindrance(self) -> str | None:
        """Why prompts cannot call such a concept here, as a sentence; None where they can."""
        if self.hindrance is not None:
            return self.hindrance
        method = find_method(self.method)
        several, phrases = method.several_tokens, method.phrases
        if (self.vectors != 1 and not several) or (self.word is not None and not phrases):
            return "its calls become several tokens, and this perf makes one of each"
        if self.supercategory is None and not (phrases or several):
            return "it is a style, and this perf puts calls in the place of a word"
        return None


FIRST_SCORES = ("harmonic", "image", "text")
"""The scores that a card had before it had a verdict."""


def in_format_1(card: ConceptCard) -> ConceptCard:
    """A card of perfusion on Stable Diffusion, as it is spelt in format 1."""
    return _without_verdict(card).model_copy(update={"schema_version": 1, "requires_perf": None})


def with_chosen(card: ConceptCard, render: FileModel, left: str | None) -> FileModel:
    """Options of a recipe with what the build of this card chose. left: the field that the recipe leaves
    open."""
    if left is None or left != card.chosen:
        return render
    return render.model_copy(update={left: card.scores[left]})


def before_verdicts(card: ConceptCard, render: FileModel) -> ConceptCard:
    """A card as a perf wrote it that gave no verdict. render: the table without what a build chose."""
    return _without_verdict(card).model_copy(update={"render": render})


def before_shows(card: ConceptCard) -> ConceptCard:
    """A card as a perf wrote it whose verdicts did not look at a concept's own pictures."""
    verdict = card.verdict and card.verdict.model_copy(update={"shows": None})
    return card.model_copy(update={"verdict": verdict})


def as_before(card: ConceptCard) -> ConceptCard:
    """A card as a perf wrote it that found out less: without what `built` need not say, and no verdict."""
    optional = {name for name, field in type(card.built).model_fields.items() if field.default is None}
    built = card.built.model_copy(update=dict.fromkeys(optional))
    return _without_verdict(card).model_copy(update={"built": built})


def _without_verdict(card: ConceptCard) -> ConceptCard:
    scores = {name: value for name, value in card.scores.items() if name in FIRST_SCORES}
    return card.model_copy(update={"verdict": None, "scores": scores})


def card_fields(card: ConceptCard) -> FileModel:
    """A card as its file spells it: `Card1` for one of format 1, else itself."""
    if card.schema_version != 1:
        return card
    fields = {name: getattr(card, name) for name in Card1.model_fields}
    return Card1(**fields)


def parse_card(text: str) -> ConceptCard:
    """Read a card of either format from its JSON, of which `schema_version` was looked at already.

    Raises pydantic's ValidationError for one that is wrong.
    """
    if json.loads(text).get("schema_version", 1) != 1:
        return ConceptCard.model_validate_json(text)
    read = Card1.model_validate_json(text)
    fields = {name: getattr(read, name) for name in ConceptCard.model_fields if hasattr(read, name)}
    return ConceptCard(**fields, built=Built(covariance=read.covariance, step=read.steps_kept))
