"""A composition: all that drawing needs to know of a prompt, as a file that can be reviewed and shared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializationInfo,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core.core_schema import CoreSchema, SerializerFunctionWrapHandler, ValidationInfo

from perfusion_registry.compose.prompt import Prompt, parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import MOST_VECTORS, LearnedWord, Table
from perfusion_registry.methods.perfusion.options import DrawOptions, SceneLock
from perfusion_registry.methods.settings import Setting
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.recipe.options import Bias, RelativeBias, Residual, Temperature
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, MethodName

COMPOSITION_SCHEMA = 3


class ComposedBase(FileModel):
    """The base a composition was made for. digest: over its files; family: what concepts must share."""

    repo: str
    revision: str | None = None
    digest: str
    family: str


class ComposedConcept(FileModel):
    """One concept of a prompt.

    method: how it is drawn. sha256: of the artifact. recipe_digest: of all inputs of its build, where it was
    built. supercategory: None of a style. word: what its calls become, "" for nothing; None for `vectors`
    tokens in the supercategory's place. learned: those words in `word` that are learned tokens. positions:
    every token of its calls. render: the method's options as they apply.
    """

    name: Name
    version: Version
    method: MethodName = DEFAULT_METHOD
    sha256: Sha256
    recipe_digest: Sha256 | None = None
    supercategory: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    word: Annotated[str | None, Field(max_length=200, exclude_if=lambda word: word is None)] = None
    vectors: Annotated[int, Field(ge=1, le=MOST_VECTORS, exclude_if=lambda vectors: vectors == 1)] = 1
    learned: Annotated[tuple[LearnedWord, ...], Field(exclude_if=lambda learned: not learned)] = ()
    positions: tuple[Annotated[int, Field(ge=0)], ...]
    render: Table

    @property
    def said(self) -> str:
        """What the text encoder reads in the place of its calls, as words."""
        return self.plain if self.word is None else self.word

    @property
    def plain(self) -> str:
        """What plain prompts have in the place of its calls."""
        return self.supercategory or self.word or ""

    @field_validator("render", mode="before")
    @classmethod
    def _of_the_method(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, Mapping) or "method" not in info.data:
            return value
        try:
            return find_method(info.data["method"]).draw_model.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"`{'.'.join(map(str, first['loc']))}`: {first['msg']}") from error
        except PerfError as error:
            raise ValueError(error.what) from error


class ComposedConcept1(FileModel):
    """One concept j of Eq. 4 in format 1, with its gate."""

    name: Name
    version: Version
    sha256: Sha256
    recipe_digest: Sha256
    supercategory: Annotated[str, Field(min_length=1, max_length=64)]
    positions: tuple[Annotated[int, Field(ge=0)], ...]
    bias: Annotated[Bias | None, Field(exclude_if=lambda bias: bias is None)] = None
    relative_bias: Annotated[RelativeBias | None, Field(exclude_if=lambda bias: bias is None)] = None
    temperature: Temperature
    key_lock: SceneLock
    residual: Residual | None = None

    @classmethod
    def of(cls, concept: ComposedConcept) -> ComposedConcept1:
        """The concept in format 1's fields, which say all of one of perfusion."""
        fields = concept.model_dump(exclude={"method", "word", "vectors", "learned", "render"})
        return cls(**fields, **concept.render.model_dump())

    def upgraded(self) -> ComposedConcept:
        """The concept as format 2 has it."""
        options = DrawOptions.model_fields.keys()
        render = DrawOptions(**{key: getattr(self, key) for key in options})
        return ComposedConcept(**self.model_dump(exclude=set(options)), render=render)


class _EitherFormat:
    """In the JSON Schema, a concept of format 2 or 1."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [handler(core), handler(ComposedConcept1.__pydantic_core_schema__)]}


class Composition(FileModel):
    """A prompt resolved to what is drawn: for concepts of Eq. 4, its gate configuration.

    prompt: in canonical form, without options in braces: `concepts` has them, in the order of their first
    call, each once. base: what the token positions and digests refer to. covariance: the digest of the C
    whose metric all target inputs share; None when no concept has one. schema_version: 1 for concepts of
    perfusion alone; its files have the gate among a concept's own fields. Up to 2 for prompts that mean the
    same to a perf that knows no weights, and are read as by that one.
    """

    schema_version: Annotated[int, Field(ge=1, le=COMPOSITION_SCHEMA)] = 1
    prompt: Annotated[str, Field(max_length=20_000)]
    base: ComposedBase
    covariance: str | None = None
    concepts: tuple[Annotated[ComposedConcept, _EitherFormat()], ...] = ()

    @field_validator("concepts", mode="before")
    @classmethod
    def _of_format_1(cls, value: Any, info: ValidationInfo) -> Any:
        """What is read of a file of format 1, in format 2's fields; out of JSON a list is no tuple."""
        if not isinstance(value, list | tuple):
            return value
        first = info.mode == "json" and info.data.get("schema_version", 1) == 1
        return tuple(_concept(concept, place, first=first) for place, concept in enumerate(value))

    @model_serializer(mode="wrap")
    def _spelt(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if self.schema_version == 1:
            spelt = [ComposedConcept1.of(concept) for concept in self.concepts]
            values["concepts"] = [one.model_dump(mode=info.mode) for one in spelt]
        return values

    @model_validator(mode="after")
    def _concepts_are_called(self) -> Composition:
        try:
            called = self.parsed.names
        except PerfError as error:
            raise ValueError(error.what) from error
        listed = tuple(concept.name for concept in self.concepts)
        if called != listed:
            raise ValueError(
                f"the prompt calls {', '.join(called) or 'no concept'}, "
                f"but the concepts listed are {', '.join(listed) or 'none'}"
            )
        if self.schema_version == 1 and any(one.method != DEFAULT_METHOD for one in self.concepts):
            raise ValueError("format 1 of compositions has concepts of perfusion alone")
        if self.covariance is None and any(find_method(one.method).needs_covariance for one in self.concepts):
            raise ValueError("concepts are composed in the metric of a covariance, and none is named")
        return self

    @property
    def parsed(self) -> Prompt:
        """The prompt, as the composition's format reads it."""
        return parse_prompt(self.prompt, plain=self.schema_version < COMPOSITION_SCHEMA)

    def concept(self, name: str) -> ComposedConcept:
        """The concept called `name`."""
        return next(concept for concept in self.concepts if concept.name == name)

    @property
    def words(self) -> dict[str, str]:
        """What plain prompts have in the place of each concept, by its name."""
        return {concept.name: concept.plain for concept in self.concepts}

    def settings(self) -> tuple[Setting, ...]:
        """Of which settings any of its concepts has a value, each once, in the order of the concepts."""
        settings: dict[str, Setting] = {}
        for concept in self.concepts:
            for setting in find_method(concept.method).settings:
                if getattr(concept.render, setting.field, None) is not None:
                    settings.setdefault(setting.key, setting)
        return tuple(settings.values())

    def to_json(self) -> str:
        """The file's text: the same composition gives the same bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def _concept(fields: Any, place: int, *, first: bool) -> Any:
    """A concept as a file says it, `place` among its concepts. first: in format 1."""
    if not isinstance(fields, Mapping):
        return fields
    try:
        if first:
            return ComposedConcept1.model_validate_json(json.dumps(fields)).upgraded()
        return ComposedConcept.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        key = ".".join(map(str, (place, *mistake["loc"])))
        raise ValueError(f"{key}: {mistake['msg'].removeprefix('Value error, ')}") from error


def parse_composition(text: str | bytes, *, where: str) -> Composition:
    """Read a composition from JSON; raises one PerfError that names every mistake by its key path."""
    try:
        return Composition.model_validate_json(text)
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'file'}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in error.errors(include_input=False, include_url=False)[:8]
        )
        raise PerfError(
            f"this is not a composition that perf can read: {mistakes}",
            where=where,
            hint="write it anew with `perf compose PROMPT --out FILE`",
        ) from error


def read_composition(path: Path) -> Composition:
    """Read a composition file; every mistake is a PerfError that names the file."""
    text = read_text(path, "composition", hint="`perf compose PROMPT --out FILE` writes one")
    return parse_composition(text, where=str(path))
