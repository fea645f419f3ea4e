"""What perf asks of a method: its options, and how its concepts are learned and drawn.

Importing this needs no torch, and neither does importing a method: what needs it is imported where it is
used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import SerializeAsAny, WithJsonSchema

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import TrainingOptions
from perfusion_registry.recipe.recipe import Recipe

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.edit import Metric
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.trainable import Trainable

Table = Annotated[SerializeAsAny[FileModel], WithJsonSchema({"type": "object"})]
"""A table of a file that is the method's own, and checked by it."""

PATH = r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*"
"""The path of a module within a denoiser, as a regular expression."""


@dataclass(frozen=True)
class TensorRule:
    """Tensors that a method may keep in an artifact.

    pattern: a regular expression that the whole of a name matches. dimensions: how many they have. half:
    whether they are kept in fp16 rather than in fp32.
    """

    pattern: str
    dimensions: int
    half: bool


class Method(ABC):
    """A way to learn a concept from images and to draw it.

    name: as `[concept] method` says it. epoch: raised whenever a change to the method changes the bytes
    that the same recipe is built into. recipe_model: what its recipes may hold. tables: the models of a
    card's `train` (options, resolved), `render` (what prompts may set, with the concept's own values) and
    `built` (what the build found out: where it has them, `covariance` is the digest of C, and `step` the
    step that was kept). draw_model: what prompts may set, as it applies in one. tensor_rules: of the
    tensors in its artifacts. needs_covariance: whether its concepts live in the metric of a covariance,
    and compose only within one.
    """

    name: ClassVar[str]
    epoch: ClassVar[int]
    recipe_model: ClassVar[type[Recipe]]
    tables: ClassVar[Mapping[str, type[FileModel]]]
    draw_model: ClassVar[type[FileModel]]
    tensor_rules: ClassVar[tuple[TensorRule, ...]]
    needs_covariance: ClassVar[bool] = False

    @abstractmethod
    def resolve_train(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> TrainingOptions:
        """The recipe's `[train]` over the base card's over the method's own values.

        base_defaults: the card's keys, None meaning absent. Raises PerfError for an impossible value of the
        card.
        """

    @abstractmethod
    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """What prompts may set, with the recipe's `[render]` over the base card's over the method's own
        values; the rest is as in `resolve_train`.
        """

    def check_base(  # noqa: B027 (a method without conditions says nothing)
        self, base: Base, name: str, options: TrainingOptions
    ) -> None:
        """Raise PerfError where the concept `name` cannot be learned on a base with these options; asked
        before anything is prepared. Here every base will do.
        """

    @abstractmethod
    def trainable(
        self,
        base: Base,
        word: str,
        metric: Metric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """Begin to learn a concept of the supercategory `word`. metric: of the covariance, for a method that
        needs one. generator: on the CPU; every random choice of the training is drawn from it.
        """

    @abstractmethod
    def built(self, step: int, covariance: str | None) -> FileModel:
        """The card's `built`. step: the training step that was kept. covariance: the digest of C."""

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
        """What the concept `name`, of the supercategory `word`, brings to a prompt that calls it.

        tensors, train: of its artifact. draw: the options as they apply. Raises PerfError when the artifact
        does not fit the base.
        """

    @abstractmethod
    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """What keeps these tensors from being those of a concept that was trained with these options, in
        words that follow "this is not a whole artifact:"; None where nothing does. They follow the rules.
        """
