"""What perf asks of a method: its options, and how its concepts are learned and drawn.

Importing this needs no torch, and neither does importing a method: what needs it is imported where it is
used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import TrainingOptions
from perfusion_registry.recipe.recipe import Recipe


class Method(ABC):
    """A way to learn a concept from images and to draw it.

    name: as `[concept] method` says it. epoch: raised whenever a change to the method changes the bytes that
    the same recipe is built into. recipe_model: what its recipes may hold.
    """

    name: ClassVar[str]
    epoch: ClassVar[int]
    recipe_model: ClassVar[type[Recipe]]

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
