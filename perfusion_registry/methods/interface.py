"""What perf asks of a method: its options, and how its concepts are learned and drawn.

A concept acts on a picture from two sides, and a method may use either or both. *Prompt-side*: it changes
what the K and V projections of all cross-attention layers emit for a prompt. A prompt is encoded, with the
concept's own token embeddings in the places of its calls, to E (n, d); Eq. 4 makes of E and the target inputs
and outputs of all gated concepts `packed` (n, D), one row a token, the columns those of the bank. It is made
once for a prompt, before the first denoising step. *Network-side*: low-rank factors A (r, m) and B (m', r)
are added to the output projection of each transformer block, in every step, at the places of the picture
that attend to the concept's tokens. Which tokens these are, its *focus* (n, J) with ones at the calls of each
of J concepts, travels beside packed as further columns (`base.residuals.marked`), so that it comes into
whatever batch a pipeline makes; the empty prompt of guidance has none. `Base.attached` is the context for
both.

Importing this needs no torch, and neither does importing a method: what needs it is imported where it is
used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, SerializeAsAny, WithJsonSchema

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.calls import MOST_VECTORS as MOST_VECTORS
from perfusion_registry.methods.calls import CallWords
from perfusion_registry.methods.calls import LearnedWord as LearnedWord
from perfusion_registry.methods.defaults import of_the_base, over_defaults
from perfusion_registry.methods.options import MethodOptions
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import TrainingOptions
from perfusion_registry.recipe.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Generator, Tensor

    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.contribution import Contribution, Targets
    from perfusion_registry.methods.trainable import MakeTrainable, Trainable
    from perfusion_registry.methods.transfer import Learned, Transferred

Table = Annotated[SerializeAsAny[FileModel], WithJsonSchema({"type": "object"})]
"""A table of a file that is the method's own, and checked by it."""

PATH = r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*"
"""The path of a module within a denoiser, as a regular expression."""

LARGEST_ARTIFACT = 1024 * 1024 * 1024
"""Bytes of a concept's file."""


class KeptStep(FileModel):
    """A card's `built` of a method that finds out nothing else. step: the training step that was kept."""

    step: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class TensorRule:
    """Tensors that a method may keep in an artifact.

    pattern: a regular expression that the whole of a name matches. dimensions: how many they have; None for
    any number. half: whether they are kept in fp16 rather than in fp32; None where they are kept as they are,
    in fp32, fp16 or bf16.
    """

    pattern: str
    dimensions: int | None
    half: bool | None


@dataclass(frozen=True)
class SourceFile:
    """A file that a concept is made of. path: from the recipe's folder. sha256: of its bytes, as the recipe
    has it."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Examined:
    """What a file says of itself. file: with the numbers, where a folder was given. words: that call what it
    is; licence: None where it says none. vectors: how many learned tokens a call becomes; None where it
    becomes words. learned: words that it brings embeddings of."""

    file: Path
    dialect: str
    words: tuple[str, ...] = ()
    licence: str | None = None
    vectors: int | None = None
    learned: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ImportedTensors:
    """What a file came to: the tensors of the artifact, the card's `built` and `vectors`, and whose way of
    naming tensors it has."""

    tensors: dict[str, Tensor]
    built: FileModel
    dialect: str
    vectors: int = 1


class Method(MethodOptions):
    """A way to learn a concept from images and to draw it.

    epoch: raised whenever a change to the method changes the bytes that the same recipe is built into.
    recipe_model: what its recipes may hold. tables: the models of a card's `train` (options, resolved),
    `render` (what prompts may set, with the concept's own values) and `built` (what the build found out:
    where it has them, `covariance` is the digest of C, and `step` the step that was kept). strength: the
    field of `[render]` and of `draw_model` whose value a build chooses by its pictures where the recipe says
    none; strengths: those tried beside the usual one. tensor_rules: of the tensors in its artifacts.
    needs_covariance: whether its concepts live in the metric of a covariance, and compose only within one.
    drawings, trainings: the names of other ways to draw and to train its concepts, which suites compare with
    its own; no method has another's name or way to draw. transferable: whether its concepts can be
    transferred to families with layers of equal widths. imports: whether all its concepts are made of a file
    that somebody has (`source_file`), instead of being learned from images. imported_tables: of the cards of
    those that are, where others are learned. phrases: whether a call may become words of the concept's own
    (`words`), and a concept may be a style, which has no supercategory. several_tokens: whether a call may
    become several learned tokens, of a style in the place of no word. reads_captions: whether pictures are
    learned under captions beside them (`recipe.captions`).
    """

    epoch: ClassVar[int]
    recipe_model: ClassVar[type[Recipe]]
    tables: ClassVar[Mapping[str, type[FileModel]]]
    strength: ClassVar[str | None] = None
    strengths: ClassVar[tuple[float, ...]] = ()
    tensor_rules: ClassVar[tuple[TensorRule, ...]]
    needs_covariance: ClassVar[bool] = False
    drawings: ClassVar[tuple[str, ...]] = ()
    trainings: ClassVar[tuple[str, ...]] = ()
    transferable: ClassVar[bool] = False
    imports: ClassVar[bool] = False
    imported_tables: ClassVar[Mapping[str, type[FileModel]]] = {}
    phrases: ClassVar[bool] = False
    several_tokens: ClassVar[bool] = False
    reads_captions: ClassVar[bool] = False

    def table(self, name: str, *, imported: bool) -> type[FileModel]:
        """The model of a card's table. imported: whether the concept was made of a file."""
        return self.imported_tables.get(name, self.tables[name]) if imported else self.tables[name]

    def resolve_train(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """The recipe's `[train]` over the base card's over the method's own values; of the card only what is
        about the base, as the rest there is meant for perfusion.

        base_defaults: the card's keys, None meaning absent. Of a method that imports there are none. Raises
        PerfError for an impossible value of the card.
        """
        if self.imports:
            return self.tables["train"]()
        return over_defaults(self.tables["train"], recipe.train, of_the_base(base_defaults), "train")

    @abstractmethod
    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """What prompts may set: the recipe's `[render]` over the base card's over the method's own values."""

    def resolved_before(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """What `resolve_render` gave in earlier perfs: what is locked with such options keeps them."""
        return self.resolve_render(recipe, base_defaults)

    def words(self, word: str | None, supercategory: str | None, draw: FileModel) -> str | None:
        """What a call becomes before it is tokenised, "" for nothing at all; None, as here, for one token in
        the supercategory's place. word, supercategory: of the card."""
        return None

    def call(self, train: FileModel, supercategory: str) -> CallWords | None:
        """What a call becomes while a concept is learned with these options, which its card says from then
        on; None, as here, for one token in the supercategory's place."""
        return None

    def learned_words(self, train: FileModel, built: FileModel, draw: FileModel) -> tuple[LearnedWord, ...]:
        """The words that `words` may say and that the concept has embeddings of its own for, in the order of
        its contribution's `words`; none here. train, built: of the card."""
        return ()

    def check_base(self, base: Base, name: str, options: TrainingOptions) -> None:
        """Raise PerfError where the concept `name` cannot be learned on a base with these options; asked
        before anything is prepared. Here every base will do.
        """

    def source_file(self, recipe: Recipe) -> SourceFile | None:
        """The file that a concept is made of; None, as here, where it is learned."""
        return None

    def examined(self, file: Path, base: BaseDescription) -> Examined | None:
        """What a file says of itself, without its numbers; None, as here, where it is none of the method's.
        Raises PerfError as `imported` does."""
        return None

    def imported(self, file: Path, base: BaseDescription, name: str) -> ImportedTensors:
        """What becomes of the file of the concept `name`. Raises PerfError for a file that cannot be read,
        and for one that does not fit the base."""
        raise NotImplementedError

    def trainable(
        self,
        base: Base,
        word: str,
        metric: CovarianceMetric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """Begin to learn a concept of the supercategory `word`, by a method that does not import. metric: of
        the covariance, for a method that needs one. generator: on the CPU; every random choice of the
        training is drawn from it.
        """
        raise NotImplementedError

    def training(self, training: str) -> MakeTrainable:
        """Begins to learn a concept in one of the other ways of `trainings`; called as `trainable` is."""
        raise KeyError(training)

    def built(self, step: int, covariance: str | None) -> FileModel:
        """The card's `built`. step: the training step that was kept. covariance: the digest of C, which a
        method that does not need one leaves out.
        """
        return self.tables["built"].model_validate({"step": step})

    @abstractmethod
    def contribution(
        self,
        base: Base,
        tensors: Mapping[str, Tensor],
        name: str,
        word: str,
        train: FileModel,
        draw: FileModel,
    ) -> Contribution:
        """What the concept `name`, of the supercategory `word` ("" of a style), brings to a prompt that calls
        it, prompt-side and network-side; nothing is attached here.

        tensors, train: of its artifact. draw: the options as they apply. Returns tensors in fp32: embeddings
        (d_token,) of each text encoder; a target of Eq. 4, in the units of E (its input i*, and the dual of
        that in the metric of its covariance) and of W E (its output); factors in the units of what the blocks
        write, by block path, and their strength. Raises PerfError when the artifact does not fit the base.
        """

    def transfer_needs_base(self, learned: Learned) -> bool:
        """Whether a transfer needs the base that the concept was learned on; here none does."""
        return False

    def transferred(
        self, learned: Learned, base: Base, metric: CovarianceMetric | None, before: Base | None
    ) -> Transferred:
        """The concept as a base of another family has it, where the method is transferable: its tensors, and
        what became of them.

        metric: of that base's covariance, for a method that needs one. before: the base that it was learned
        on, where `transfer_needs_base`. Raises PerfError where what was learned does not fit the base.
        """
        raise NotImplementedError

    def drawing_mistake(self, drawing: str, draw: FileModel) -> PerfError | None:
        """What keeps a concept with these options from being drawn in one of the other ways of `drawings`;
        None where nothing does."""
        return None

    def packed(
        self, drawing: str, E: Tensor, W: Tensor, targets: Targets, places: Mapping[int, int]
    ) -> Tensor:
        """What K and V emit for one prompt in one of the other ways of `drawings`, (n, D), instead of Eq. 4.

        E: (n, d), the prompt's encodings. W: (D, d), of the bank. targets: what J concepts of the method
        bring to the prompt. places: the concept j at each token position that calls one.
        """
        raise KeyError(drawing)

    @abstractmethod
    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """What keeps these tensors from being those of a concept that was trained with these options, in
        words that follow "this is not a whole artifact:"; None where nothing does. They follow the rules.
        """
