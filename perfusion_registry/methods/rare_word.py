"""A rare word that stands for a concept in prompts: V* beside its supercategory, "sks cat".

The methods that change the denoiser's weights call their concepts so. The word is one that the base hardly
knows, and stays as the base reads it, or its token embedding is learned too.

| tensor | meaning | shape | type |
|---|---|---|---|
| `words.0.text_encoder` ... | a learned word's embedding of each text encoder | (1, d_token) | fp32 |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from perfusion_registry.methods.calls import CallWords, LearnedWord
from perfusion_registry.methods.defaults import of_the_base
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.lora.words import mistake, words_in
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import PriorOptions, PriorSection
from perfusion_registry.recipe.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base

RARE = "sks"
"""As the authors of DreamBooth's scripts chose it: one token of CLIP's that few captions have."""
ONE_TEMPLATE = ("a photo of a {}",)
"""Such concepts are learned under one prompt, whatever the base's card says of templates."""

RareWord = Annotated[
    str,
    Field(
        pattern=r"^([^\s*{}\\]+)?$",
        max_length=40,
        description="The rare word that stands for it beside its supercategory; empty: that alone.",
    ),
]
MaxGradNorm = Annotated[
    float,
    Field(ge=0, le=1e6, description="What the norm of all gradients together is clipped to; 0: not at all."),
]
_LEARNED = "Whether the rare word's token embedding is learned too."
_BESIDE = "Whether the supercategory stands behind the rare word in prompts."


class RareWordSection(PriorSection):
    """The part of `[train]` that says how calls are spelled."""

    token: RareWord | None = None
    learn_token: Annotated[bool | None, Field(description=_LEARNED)] = None
    with_supercategory: Annotated[bool | None, Field(description=_BESIDE)] = None
    max_grad_norm: MaxGradNorm | None = None

    @model_validator(mode="after")
    def _something_is_said(self) -> Self:
        if self.token == "" and (self.learn_token or self.with_supercategory is False):
            raise ValueError('`token = ""` leaves no rare word that could be learned or stand alone')
        return self


class RareWordOptions(PriorOptions):
    """token: the rare word, "" for none; learn_token: whether its embedding is learned; with_supercategory:
    whether the supercategory is said behind it. max_grad_norm: of what is learned, where it is clipped."""

    token: Annotated[RareWord, Field(exclude_if=lambda token: not token)] = ""
    learn_token: Annotated[bool, Field(exclude_if=lambda learned: not learned)] = False
    with_supercategory: Annotated[bool, Field(exclude_if=lambda beside: beside)] = True
    max_grad_norm: Annotated[MaxGradNorm, Field(exclude_if=lambda norm: not norm)] = 0.0

    def spelled(self, supercategory: str) -> str:
        """What a call becomes, "sks cat"."""
        return f"{self.token} {supercategory}" if self.with_supercategory else self.token


class RareWordRecipe(Recipe):
    """A recipe of such a method."""

    @model_validator(mode="after")
    def _word_is_not_of_the_supercategory(self) -> Self:
        token = getattr(self.train, "token", None) or ""
        if token.lower() in (self.concept.supercategory or "").lower().split():
            raise ValueError(
                f"`token = {token!r}` is a word of the supercategory {self.concept.supercategory!r}: "
                "take one that means nothing yet"
            )
        return self


class RareWordMethod(Method):
    """A method whose calls are a rare word beside the supercategory."""

    phrases = True

    def defaults(self, base_defaults: Mapping[str, Any]) -> dict[str, Any]:
        """What `[train]` has where a recipe does not say: of the base what is about it, but for templates."""
        return {**of_the_base(base_defaults), "templates": ONE_TEMPLATE, "token": RARE}

    def call(self, train: FileModel, supercategory: str) -> CallWords | None:
        """The rare word, and the supercategory."""
        assert isinstance(train, RareWordOptions)
        if not train.token:
            return None
        learned = (LearnedWord(word=train.token, vectors=1),) if train.learn_token else ()
        return CallWords(train.spelled(supercategory), learned)

    def silent(self, draw: FileModel) -> bool:
        """Whether nothing of the concept applies with these options, so that calls are its supercategory."""
        return False

    def words(self, word: str | None, supercategory: str | None, draw: FileModel) -> str | None:
        """As the card has it; where nothing of it applies, its supercategory."""
        return supercategory if word is not None and self.silent(draw) else word

    def learned_words(self, train: FileModel, built: FileModel, draw: FileModel) -> tuple[LearnedWord, ...]:
        """The rare word, where it was learned."""
        assert isinstance(train, RareWordOptions)
        if not train.learn_token or self.silent(draw):
            return ()
        return (LearnedWord(word=train.token, vectors=1),)


def start_of(base: Base, options: RareWordOptions) -> tuple[Tensor, ...]:
    """Where a learned word starts: the base's own embeddings (d_token,) of the rare word, of each text
    encoder, of several tokens their mean; none where it is not learned."""
    from perfusion_registry.methods.embeddings import embeddings_of_word

    return embeddings_of_word(base, options.token) if options.learn_token else ()


def word_tensors(embeddings: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """A learned word's embeddings (d_token,), by the number of the text encoder, as an artifact has them."""
    return {
        f"words.0.text_encoder{f'_{encoder + 1}' if encoder else ''}": own.detach().float()[None]
        for encoder, own in embeddings.items()
    }


def word_mistake(options: RareWordOptions, tensors: Mapping[str, Tensor]) -> str | None:
    """What keeps the words among these tensors from being those of a training with these options."""
    if len(words_in(tensors)) != int(options.learn_token):
        return "its word is missing" if options.learn_token else "it has a word that was not learned"
    return mistake(tensors)
