"""What a recipe says of an imported LoRA, and what prompts may set of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from perfusion_registry.methods.interface import LearnedWord
from perfusion_registry.methods.settings import Setting
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Sha256
from perfusion_registry.recipe.recipe import ConceptSection, Recipe

NAME = "lora"

EVERYWHERE, LOCALISED, GATED = "everywhere", "localised", "gated"

Strength = Annotated[
    float, Field(ge=-10, le=10, description="How strongly it applies; the text encoder's too.")
]
TextStrength = Annotated[
    float, Field(ge=-10, le=10, description="How strongly it applies to the text encoder, if otherwise.")
]
REACH_SAID = (
    "`everywhere`, as other programs draw it; `localised`: to the picture where the concept is; `gated`: to "
    "its words alone too, with its supercategory's keys. Left out: everywhere, beside other things gated."
)
Reach = Literal["everywhere", "localised", "gated"]


def _phrase(text: str) -> str:
    if not text.strip() or text != text.strip():
        raise ValueError("a phrase has no white space around it")
    if any(mark in text for mark in "*{}\\\n"):
        raise ValueError(f"`{text}`: `*`, `{{`, `}}` and `\\` belong to the prompt grammar")
    return text


Phrase = Annotated[
    str,
    AfterValidator(_phrase),
    Field(min_length=1, max_length=200, description="What a call becomes: its trigger words."),
]

STRENGTH = Setting("strength", Strength, ".8", usual=1.0, null=False)
SETTINGS = (
    STRENGTH,
    Setting("text_strength", TextStrength, ".5", null=False),
    Setting("reach", Reach, GATED, null=False),
)


class NoTraining(FileModel):
    """`[train]`: nothing, since it was not trained here."""


class RenderSection(FileModel):
    """`[render]` of a recipe."""

    strength: Strength | None = None
    text_strength: TextStrength | None = None
    reach: Annotated[Reach | None, Field(description=REACH_SAID)] = None


class DrawOptions(FileModel):
    """How it applies in a prompt."""

    strength: Strength = 1.0
    text_strength: Annotated[TextStrength | None, Field(exclude_if=lambda value: value is None)] = None
    reach: Annotated[Reach | None, Field(exclude_if=lambda value: value is None)] = None

    @property
    def of_text(self) -> float:
        """How strongly it applies to the text encoder."""
        return self.strength if self.text_strength is None else self.text_strength

    @property
    def absent(self) -> bool:
        """Whether nothing of it applies."""
        return not (self.strength or self.of_text)


class Built(FileModel):
    """What an import found: how many modules of the denoiser and of text encoders it changes, and the ranks
    of its factors, the least and the greatest; none of whole differences. words: those that it brings
    embeddings of."""

    denoiser: Annotated[int, Field(ge=0)]
    text: Annotated[int, Field(ge=0)]
    ranks: tuple[int, int] | None = None
    words: Annotated[tuple[LearnedWord, ...], Field(exclude_if=lambda words: not words)] = ()


class LoraConcept(ConceptSection):
    """`[concept]` of a recipe. file: that it is imported from, from the recipe's folder. sha256: of its
    bytes. word: what a call becomes; by default the supercategory. Without a supercategory it is a style.
    images: to compare its pictures with, where there are some."""

    method: Literal["lora"] = "lora"
    word: Annotated[Phrase | None, Field(exclude_if=lambda word: word is None)] = None
    file: Annotated[str, Field(min_length=1, max_length=1000)]
    sha256: Sha256


class LoraRecipe(Recipe):
    """A recipe whose method is `lora`."""

    concept: LoraConcept
    train: NoTraining = NoTraining()
    render: RenderSection = RenderSection()
