"""A method of somebody else: another distribution, installed beside perf, which knows nothing of it."""

from __future__ import annotations

from pathlib import Path

from perfusion_registry.methods.table import ENTRY_POINTS
from tests.distribution import install

MODULE = """
from perfusion_registry.methods.interface import Method, TensorRule
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import TrainingOptions, TrainingSection
from perfusion_registry.recipe.recipe import Recipe


class Section(TrainingSection):
    depth: int | None = None


class Options(TrainingOptions):
    depth: int = 3


class Strength(FileModel):
    strength: float = 1.0


class Built(FileModel):
    step: int


class DeepRecipe(Recipe):
    train: Section = Section()


class Deep(Method):
    name = "deep"
    epoch = 7
    recipe_model = DeepRecipe
    tables = {"train": Options, "render": Strength, "built": Built}
    draw_model = Strength
    tensor_rules = (TensorRule("roots", dimensions=2, half=True),)

    def resolve_train(self, recipe, base_defaults):
        return Options(**recipe.train.model_dump(exclude_none=True))

    def resolve_render(self, recipe, base_defaults):
        return Strength()

    def trainable(self, base, word, metric, options, generator):
        raise AssertionError("nothing is trained here")

    def built(self, step, covariance):
        return Built(step=step)

    def contribution(self, base, tensors, name, word, train, draw):
        raise AssertionError("nothing is drawn here")

    def tensor_mistake(self, train, tensors):
        return None if len(tensors.get("roots", ())) == train.depth else "its roots are not as deep as told"


METHOD = Deep()
NONE = "no method"
"""


def install_deep(site: Path) -> None:
    points = {"deep": "perf_deep:METHOD", "broken": "perf_deep:NONE", "gone": "perf_deep:OTHER"}
    install(site, "perf-deep", "perf_deep", MODULE, points, group=ENTRY_POINTS)
