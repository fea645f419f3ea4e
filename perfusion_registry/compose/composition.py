"""A composition: everything Eq. 4 needs to know about a prompt, as a file that can be reviewed and shared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from perfusion_registry.compose.prompt import KeyLock, parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.recipe.options import Bias, Residual, Temperature

COMPOSITION_SCHEMA: Literal[1] = 1


class ComposedBase(FileModel):
    """The base a composition was made for. digest: over its files; family: what concepts must share."""

    repo: str
    revision: str | None = None
    digest: str
    family: str


class ComposedConcept(FileModel):
    """One concept j of Eq. 4, with its gate.

    sha256: of the artifact. recipe_digest: of all inputs of its build. positions: the token positions of its
    calls. bias, temperature: beta_j and tau_j. key_lock: `local` takes its keys from the supercategory's
    encoding, `global` takes the keys of the whole prompt from the prompt with the supercategory's word in its
    place, `none` takes the keys that were trained. residual: how strongly its personalised residual applies;
    None where it has none.
    """

    name: Name
    version: Version
    sha256: Sha256
    recipe_digest: Sha256
    supercategory: Annotated[str, Field(min_length=1, max_length=64)]
    positions: tuple[Annotated[int, Field(ge=0)], ...]
    bias: Bias
    temperature: Temperature
    key_lock: KeyLock
    residual: Residual | None = None


class Composition(FileModel):
    """A prompt resolved to its Eq. 4 gate configuration.

    prompt: in canonical form, without gates in braces: `concepts` has them, in the order of their first call,
    each once. base: what the token positions and digests refer to. covariance: the digest of the C whose
    metric all target inputs share; None when no concept is called.
    """

    schema_version: Literal[1] = COMPOSITION_SCHEMA
    prompt: Annotated[str, Field(max_length=20_000)]
    base: ComposedBase
    covariance: str | None = None
    concepts: tuple[ComposedConcept, ...] = ()

    @model_validator(mode="after")
    def _concepts_are_called(self) -> Composition:
        try:
            called = parse_prompt(self.prompt).names
        except PerfError as error:
            raise ValueError(error.what) from error
        listed = tuple(concept.name for concept in self.concepts)
        if called != listed:
            raise ValueError(
                f"the prompt calls {', '.join(called) or 'no concept'}, "
                f"but the concepts listed are {', '.join(listed) or 'none'}"
            )
        if self.concepts and self.covariance is None:
            raise ValueError("concepts are composed in the metric of a covariance, and none is named")
        return self

    def concept(self, name: str) -> ComposedConcept:
        """The concept called `name`."""
        return next(concept for concept in self.concepts if concept.name == name)

    def to_json(self) -> str:
        """The file's text: the same composition gives the same bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def parse_composition(text: str, *, where: str) -> Composition:
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
    return parse_composition(read_text(path, "composition"), where=str(path))
