"""Variants: the ways to build and to draw that a figure compares, said in the options of their methods."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    SerializeAsAny,
    ValidationInfo,
    WrapValidator,
    model_validator,
)

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.checking import keys_of, table_of
from perfusion_registry.methods.files import any_train_section, train_section
from perfusion_registry.methods.settings import Value
from perfusion_registry.methods.table import UnknownMethodError, find_drawing, usable_methods
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import Bias, Residual, Temperature, TrainingSection
from perfusion_registry.recipe.recipe import Word
from perfusion_registry.suggestions import did_you_mean

Label = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^@\n]+$")]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
Count = Annotated[int, Field(ge=1, le=10_000)]

WORDS = "supercategory"
"""In the place of a method: no concept at all, but the words alone, drawn by the untouched base."""
END_TO_END = "end-to-end"
"""Every method's own way to train."""

if TYPE_CHECKING:
    TrainSection = TrainingSection
else:  # made of the sections of all methods
    TrainSection = any_train_section()


def _known_method(name: str) -> str:
    if name != WORDS:
        try:
            find_drawing(name)
        except UnknownMethodError as error:
            ways = [way for method in usable_methods() for way in (method.name, *method.drawings)]
            there = f"there are {', '.join((*ways, WORDS))}"
            meant = did_you_mean(name, (*ways, WORDS), there, form="`{}`")
            raise ValueError(f"there is no method `{name}`, and no way to draw; {meant}") from error
        except PerfError as error:
            raise ValueError(error.what) from error
    return name


Method = Annotated[
    str,
    AfterValidator(_known_method),
    Field(max_length=64, description="A method, another of a method's ways to draw, or `supercategory`."),
]


def _train_of_the_method(said: Any, handler: Any, info: ValidationInfo) -> TrainingSection:
    """`[train]` as the variant's method has it; of the words alone, as any has it."""
    name = info.data.get("method", WORDS)
    if name == WORDS:
        return train_of_any(said, handler)
    method = find_drawing(name)[0].name
    return table_of(train_section(method), said, f"is no option of [train] of the method `{method}`")


def train_of_any(said: Any, handler: Any) -> TrainingSection:
    """`[train]` of a suite: what some method has; each variant takes of it what its own has."""
    return table_of(any_train_section(keys_of(said)), said, "is no option of [train] of any method")


def _settings_of_the_method(
    said: Mapping[str, Value | tuple[Value, ...]], info: ValidationInfo
) -> dict[str, tuple[Value, ...]]:
    """Values of settings, each checked by the variant's method, by field."""
    if "method" not in info.data or not said:
        return {}
    if info.data["method"] == WORDS:
        raise ValueError("the words alone have no options to set")
    method = find_drawing(info.data["method"])[0]
    fields = {setting.field: setting for setting in method.settings}
    checked: dict[str, tuple[Value, ...]] = {}
    for key, values in said.items():
        if key not in fields:
            meant = did_you_mean(key, fields, f"it has {', '.join(fields) or 'none'}", form="`{}`")
            raise ValueError(f"`{key}` is no render option of the method `{method.name}`; {meant}")
        try:
            every = values if isinstance(values, tuple) else (values,)
            checked[key] = tuple(fields[key].check(value) for value in every)
        except PerfError as error:
            raise ValueError(f"`{key}`: {error.what}; {error.hint}") from error
    return checked


RenderValues = Annotated[
    dict[str, Value | Annotated[tuple[Value, ...], Field(min_length=1)]],
    AfterValidator(_settings_of_the_method),
    Field(description="What is set for each concept: options of the method, each a value or several."),
]


class Variant(FileModel):
    """A way to build and to render, drawn at every combination of the values that it sets.

    method: by which concepts are learned and drawn, or what it is compared with: another way to draw of a
    method (`methods.perfusion.baselines`), or `supercategory`. training: another way to train of the method;
    `one-index` optimises o* at the concept's token alone, as vanilla ROME does. images: how many of the
    concept's. supercategory: in place of the concept's own; nearest_word: the noun that CLIP
    finds nearest to its images in place of either. train: over the recipe and the base's card, as
    the method has it. pairs: also learn it in the suite's pairs, where those are for its group. render: by
    field, the values of the method's settings; what is left out is as the concept has it. bias, temperature,
    key_lock, residual: perfusion's, each instead of its key in `render`; lock `none` needs trained keys.
    base: one of the suite's `bases`, to render on. tries: keys of `train` with several values each; the
    variant then stands for one of each combination, named after it. chosen_from: a figure that searches; the
    variant is the best point of that, with what it says itself over it. against: another variant of
    the figure, that it is compared with in every metric.
    """

    name: Label
    method: Method = "perfusion"
    training: Annotated[str, Field(max_length=64)] = END_TO_END
    images: Count | None = None
    supercategory: Word | None = None
    nearest_word: Annotated[bool, Field(exclude_if=lambda asked: not asked)] = False
    train: Annotated[
        SerializeAsAny[TrainSection], WrapValidator(_train_of_the_method), Field(validate_default=True)
    ] = TrainSection()
    pairs: Annotated[bool, Field(validation_alias=AliasChoices("pairs", "company"))] = False
    bias: tuple[Bias, ...] = ()
    temperature: tuple[Temperature, ...] = ()
    key_lock: Literal["local", "global", "none"] | None = None
    residual: Residual | None = None
    render: Annotated[RenderValues, Field(exclude_if=lambda values: not values)] = Field(default_factory=dict)
    base: Key | None = None
    tries: Annotated[
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(exclude_if=lambda tried: not tried)
    ] = Field(default_factory=dict)
    chosen_from: Annotated[Key | None, Field(exclude_if=lambda figure: figure is None)] = None
    against: Annotated[Label | None, Field(exclude_if=lambda variant: variant is None)] = None

    @model_validator(mode="after")
    def _of_the_method(self) -> Variant:
        if self.method == WORDS:
            return self
        method, _ = find_drawing(self.method)
        if self.training not in (END_TO_END, *method.trainings):
            ways = ", ".join(f"`{way}`" for way in (END_TO_END, *method.trainings))
            raise ValueError(f"`{method.name}` is not trained by `{self.training}`; there is {ways}")
        fields = {setting.field for setting in method.settings}
        for field in self._own:
            if field not in fields:
                raise ValueError(f"a concept of the method `{method.name}` has no {field} to set")
            if field in self.render:
                raise ValueError(f"{field} is set twice: beside `render`, and in it")
        return self

    @property
    def learned_by(self) -> str:
        """The method by which its concepts are learned; "" where there are none."""
        return "" if self.method == WORDS else find_drawing(self.method)[0].name

    @property
    def drawing(self) -> str | None:
        """The other way to draw than the method's own, where it is one."""
        return None if self.method == WORDS else find_drawing(self.method)[1]

    @property
    def other_training(self) -> str | None:
        """The other way to train than the method's own, where it is one."""
        return None if self.training == END_TO_END else self.training

    @property
    def _own(self) -> dict[str, tuple[Value, ...]]:
        """What it sets by keys of its own."""
        values: dict[str, tuple[Value | None, ...]] = {
            "bias": self.bias,
            "temperature": self.temperature,
            "key_lock": (self.key_lock,),
            "residual": (self.residual,),
        }
        known = {field: tuple(v for v in several if v is not None) for field, several in values.items()}
        return {field: several for field, several in known.items() if several}

    @property
    def axes(self) -> dict[str, tuple[Value, ...]]:
        """By field the values that it sets, biases first, then temperatures."""
        given = self._own | {field: _several(values) for field, values in self.render.items()}
        first = [field for field in ("bias", "temperature") if field in given]
        return {field: given[field] for field in (*first, *(f for f in given if f not in first))}

    def points(self) -> dict[str, dict[str, Value]]:
        """Its operating points, biases first: by label what it sets for each concept, the rest as the
        concept has it.

        A label is the variant's name and what varies within it, such as `local@0.55`, `local@0.55@t0.1` or
        `blend@strength=0.5`.
        """
        axes = self.axes
        points = {}
        for backwards in itertools.product(*reversed(axes.values())):
            values = dict(zip(axes, reversed(backwards), strict=True))
            varying = [_labelled(field, value) for field, value in values.items() if len(axes[field]) > 1]
            points["@".join((self.name, *varying))] = values
        return points

    @property
    def training_options(self) -> tuple[object, ...]:
        """All of it that makes another artifact; variants alike in this differ at render time alone."""
        word = self.nearest_word or self.supercategory
        return self.learned_by, self.training, self.images, word, self.train, self.pairs


def tried(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    """Those that a suite's file names, and in the place of one with `tries` one for each combination of
    these."""
    return tuple(one for variant in variants for one in _combinations(variant))


def _combinations(variant: Variant) -> list[Variant]:
    if not variant.tries:
        return [variant]
    section, made = train_section(variant.learned_by or "perfusion"), []
    for values in itertools.product(*variant.tries.values()):
        said = dict(zip(variant.tries, values, strict=True))
        every = variant.train.model_dump(exclude_none=True) | said
        train = table_of(section, every, f"is no option of [train] of the method `{variant.learned_by}`")
        name = ", ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in said.items())
        update = {"name": f"{variant.name}, {name}", "train": train, "tries": {}}
        made.append(variant.model_copy(update=update))
    return made


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _several(values: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    return values if isinstance(values, tuple) else (values,)


def _labelled(field: str, value: Value) -> str:
    """A value in the label of a point."""
    shown = value if isinstance(value, str) else f"{value:g}"
    return {"bias": shown, "temperature": f"t{shown}"}.get(field, f"{field}={shown}")
