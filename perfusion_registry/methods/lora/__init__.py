"""LoRAs that somebody has, as concepts: imported from a file, and drawn everywhere, localised or gated.

A LoRA (and its kin: LoHa, LoKr, DoRA, whole differences) changes weights of the denoiser and of text
encoders. *Everywhere* is as every other program draws it. *Localised*, the denoiser has it where the concept
is, in a region that a first phase finds; *gated* too, K and V of cross-attention have it at the tokens
of the concept's words alone, with the keys of its supercategory, and its part of the text encoder encodes
those tokens alone, so that it is silent elsewhere and two of them can share a picture; how far they do is in
`docs/log.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import (
    PATH,
    Examined,
    ImportedTensors,
    LearnedWord,
    Method,
    SourceFile,
    TensorRule,
)
from perfusion_registry.methods.lora.options import (
    EVERYWHERE,
    GATED,
    LOCALISED,
    NAME,
    SETTINGS,
    Built,
    DrawOptions,
    LoraConcept,
    LoraRecipe,
    NoTraining,
)
from perfusion_registry.methods.lora.words import RULE, mistake, without_words, words_for
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.transfer import Learned, Transferred


class Lora(Method):
    """Imported; nothing is trained."""

    name = NAME
    epoch = 1
    recipe_model = LoraRecipe
    tables = MappingProxyType({"train": NoTraining, "render": DrawOptions, "built": Built})
    draw_model = DrawOptions
    settings = SETTINGS
    tensor_rules = (
        TensorRule(rf"(denoiser|text_encoder(_2)?)\.{PATH}", dimensions=None, half=None),
        RULE,
    )
    transferable = True
    imports = True
    phrases = True

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> DrawOptions:
        """The recipe's."""
        return DrawOptions.model_validate(recipe.render.model_dump(exclude_none=True))

    def source_file(self, recipe: Recipe) -> SourceFile:
        """The one that the recipe names."""
        concept = recipe.concept
        assert isinstance(concept, LoraConcept)
        return SourceFile(concept.file, concept.sha256)

    def examined(self, file: Path, base: BaseDescription) -> Examined | None:
        """By its header: a file with adapters."""
        from perfusion_registry.methods.importing import look_at, require_room
        from perfusion_registry.methods.lora.importing import phrases_of

        contents = look_at(file, base)
        if not contents.parts:
            return None
        return Examined(
            contents.opened.file,
            contents.dialect,
            phrases_of(contents),
            contents.licence,
            learned=tuple(word for word in require_room(contents) if word is not None),
        )

    def imported(self, file: Path, base: BaseDescription, name: str) -> ImportedTensors:
        """See `methods.lora.importing`."""
        from perfusion_registry.methods.lora.importing import imported

        return imported(file, base, name)

    def built(self, step: int, covariance: str | None) -> Built:
        """An import finds it out itself."""
        raise NotImplementedError

    def among(self, draw: FileModel, *, style: bool, others: int) -> DrawOptions:
        """A style applies everywhere, as does a concept alone; beside other things it is gated."""
        assert isinstance(draw, DrawOptions)
        if draw.reach is not None:
            return draw
        return draw.model_copy(update={"reach": EVERYWHERE if style or not others else GATED})

    def words(self, word: str | None, supercategory: str | None, draw: FileModel) -> str:
        """Its phrase; where nothing of it applies, its supercategory."""
        assert isinstance(draw, DrawOptions)
        if draw.absent and supercategory is not None:
            return supercategory
        return word or supercategory or ""

    def learned_words(self, train: FileModel, built: FileModel, draw: FileModel) -> tuple[LearnedWord, ...]:
        """Those that its file brings, at any strength but none at all."""
        assert isinstance(built, Built)
        assert isinstance(draw, DrawOptions)
        return () if draw.absent else built.words

    def style_mistake(self, name: str, draw: FileModel) -> PerfError | None:
        """A style has no words to be gated by, and nowhere to be."""
        assert isinstance(draw, DrawOptions)
        if draw.reach in (None, EVERYWHERE):
            return None
        return PerfError(
            f"{name!r} is a style, so it cannot be {draw.reach}: it applies everywhere",
            hint=f"leave reach={draw.reach} out, or import it anew with --super",
        )

    def contribution(
        self,
        base: Base,
        tensors: Mapping[str, Tensor],
        name: str,
        word: str,
        train: FileModel,
        draw: FileModel,
    ) -> Contribution:
        """Its adapters, and the words that its file brings."""
        from perfusion_registry.methods.contribution import Adapters, Contribution
        from perfusion_registry.methods.lora.drawing import changes_of

        assert isinstance(draw, DrawOptions)
        words = words_for(base, tensors, name)
        if draw.absent:
            return Contribution(words=words)
        changes = changes_of(base, without_words(tensors), name)
        return Contribution(
            words=words,
            adapters=Adapters(
                denoiser=changes.pop("denoiser", {}),
                text=changes,
                strength=draw.strength,
                text_strength=draw.of_text,
                gated=draw.reach == GATED,
                localised=draw.reach in (LOCALISED, GATED),
            ),
        )

    def transferred(
        self, learned: Learned, base: Base, metric: CovarianceMetric | None, before: Base | None
    ) -> Transferred:
        """As it is."""
        from perfusion_registry.methods.lora.drawing import as_it_is

        return as_it_is(learned, base, without_words(learned.tensors))

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """Those of adapters, whole, and of words."""
        from perfusion_registry.methods.lora.drawing import adapters_mistake

        return adapters_mistake(without_words(tensors)) or mistake(tensors)


METHOD = Lora()
