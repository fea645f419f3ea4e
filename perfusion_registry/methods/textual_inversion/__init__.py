"""Textual inversion: a concept is learned tokens ("An Image is Worth One Word", Gal et al., ICLR 2023).

What is learned here is one token. What is imported from a file that somebody has may be several, and a style,
in the place of no word; it stands in SDXL's pooled vector too, as in every other program.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perfusion_registry.methods import embeddings
from perfusion_registry.methods.interface import Examined, ImportedTensors, KeptStep, Method, SourceFile
from perfusion_registry.methods.textual_inversion.options import (
    NAME,
    InversionConcept,
    InversionRecipe,
    NoOptions,
    TrainOptions,
    Untrained,
)
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import Recipe

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.trainable import Trainable
    from perfusion_registry.methods.transfer import Learned, Transferred
    from perfusion_registry.recipe.options import TrainingOptions


class TextualInversion(Method):
    """Prompt-side, without an edit: the tokens stand in the prompt, and the denoiser is the base's own."""

    name = NAME
    epoch = 1
    recipe_model = InversionRecipe
    tables = MappingProxyType({"train": TrainOptions, "render": NoOptions, "built": KeptStep})
    imported_tables = MappingProxyType({"train": Untrained, "built": Untrained})
    draw_model = NoOptions
    tensor_rules = (embeddings.SEVERAL,)
    transferable = True
    several_tokens = True
    reads_captions = True

    def resolve_train(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """Nothing, where it is imported."""
        if self.source_file(recipe) is not None:
            return Untrained()
        return super().resolve_train(recipe, base_defaults)

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> NoOptions:
        """Nothing."""
        return NoOptions()

    def source_file(self, recipe: Recipe) -> SourceFile | None:
        """The one that the recipe names, where it does."""
        concept = recipe.concept
        if not isinstance(concept, InversionConcept) or concept.file is None or concept.sha256 is None:
            return None
        return SourceFile(concept.file, concept.sha256)

    def examined(self, file: Path, base: BaseDescription) -> Examined | None:
        """By its header: a file without adapters."""
        from perfusion_registry.methods.importing import look_at
        from perfusion_registry.methods.textual_inversion.importing import vectors_in

        contents = look_at(file, base)
        if contents.parts:
            return None
        file, count = contents.opened.file, vectors_in(contents)
        return Examined(file, contents.dialect, contents.words, contents.licence, vectors=count)

    def imported(self, file: Path, base: BaseDescription, name: str) -> ImportedTensors:
        """See `methods.textual_inversion.importing`."""
        from perfusion_registry.methods.textual_inversion.importing import imported

        return imported(file, base, name)

    def trainable(
        self,
        base: Base,
        word: str,
        metric: CovarianceMetric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """See `methods.textual_inversion.training`."""
        from perfusion_registry.methods.textual_inversion.training import InversionTrainable

        assert isinstance(options, TrainOptions)
        return InversionTrainable(base, word, options)

    def contribution(
        self,
        base: Base,
        tensors: Mapping[str, Tensor],
        name: str,
        word: str,
        train: FileModel,
        draw: FileModel,
    ) -> Contribution:
        """Its embeddings alone."""
        from perfusion_registry.base import InPooledToo
        from perfusion_registry.methods.contribution import Contribution

        own = embeddings.vectors_for(base, tensors, name)
        return Contribution(InPooledToo(own) if isinstance(train, Untrained) else own)

    def transferred(
        self, learned: Learned, base: Base, metric: CovarianceMetric | None, before: Base | None
    ) -> Transferred:
        """With its embeddings as they are."""
        from perfusion_registry.methods.fitting import require_fit
        from perfusion_registry.methods.transfer import Transferred

        require_fit(learned, base)
        return Transferred(dict(learned.tensors))

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """An embedding for each text encoder, numbered."""
        return embeddings.mistake(tensors)


METHOD = TextualInversion()
