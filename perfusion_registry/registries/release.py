"""A release: one published version of a concept or of a scene pack, as an index describes it.

In memory a release is always as format 2 has it; `format` says how it is spelt, in an index and where it is
signed. What was published as format 1 stays format 1, to the byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializationInfo,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core.core_schema import CoreSchema, SerializerFunctionWrapHandler, ValidationInfo

from perfusion_registry.recipe.lockfile import FORMAT_1_GATE, RenderValue
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, MethodName
from perfusion_registry.registries.release1 import Release1
from perfusion_registry.registries.release_parts import (
    LARGEST_BLOB,
    Growing,
    RequiredConcept,
    Signature,
    Text,
)

__all__ = [
    "LARGEST_BLOB",
    "RELEASE_FORMAT",
    "AnyRelease",
    "Preview",
    "Release",
    "RequiredConcept",
    "Signature",
    "blobs_of",
    "preview_of",
]

RELEASE_FORMAT = 2
ARCHITECTURE = "stable-diffusion"
"""The architecture of the base of every release of format 1."""


Key = Annotated[str, Field(max_length=100)]


class Preview(Growing):
    """A small picture that belongs to a release, a blob of its own."""

    sha256: Sha256
    size: Annotated[int, Field(ge=1, le=LARGEST_BLOB)]


class Release(Growing):
    """One published name@version; immutable once it is in an index.

    kind: `concept` (a blob in the artifact format) or `pack` (a scene pack: a blob of TOML with prompts and
    gates, and requirements). method, requires_perf: how a concept is drawn, and the lowest perf that can.
    sha256, size: of the blob. architecture, family, covariance: what a concept composes with, as far as it
    names them; a pack has none of them. render: what a prompt may set, with the concept's own values, as its
    method has them. The other fields are the card's, told here so that choosing needs no download.
    """

    format: Annotated[int, Field(ge=1, le=RELEASE_FORMAT)] = 1
    name: Name
    version: Version
    kind: Literal["concept", "pack"] = "concept"
    method: MethodName = DEFAULT_METHOD
    requires_perf: Version | None = None
    sha256: Sha256
    size: Annotated[int, Field(ge=1, le=LARGEST_BLOB)]
    architecture: Text | None = None
    family: Text | None = None
    covariance: Text | None = None
    base: Text | None = None
    supercategory: Text | None = None
    recipe_digest: Sha256 | None = None
    render: Annotated[dict[Key, RenderValue], Field(max_length=100)] = Field(default_factory=dict)
    requires: tuple[RequiredConcept, ...] = ()
    licence: Text | None = None
    base_licence: Text | None = None
    authors: tuple[Text, ...] = ()
    consent: Text | None = None
    description: Text | None = None
    preview: Preview | None = None
    signature: Signature | None = None
    _later: Mapping[str, Any] | None = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _of_any_format(
        cls, fields: Any, handler: ModelWrapValidatorHandler[Release], info: ValidationInfo
    ) -> Release:
        """The release, also where it is of a format that comes after this perf's."""
        later = info.mode == "json" and isinstance(fields, Mapping) and _is_later(fields.get("format"))
        if not later:
            return handler(fields)
        told = _Told.model_validate(fields)
        made = cls.model_construct(_fields_set=None, format=fields["format"], **dict(told))
        made._later = fields
        return made

    @property
    def hindrance(self) -> str | None:
        """Why this perf can use nothing of the release, as a sentence; None where it can read all of it."""
        if self._later is None:
            return None
        return f"it is told in format {self.format}, and this perf reads up to {RELEASE_FORMAT}"

    @model_validator(mode="before")
    @classmethod
    def _lifted(cls, fields: Any, info: ValidationInfo) -> Any:
        """What format 1 says by three fields of its own, in `render`; nothing else may stand in it.

        A release made here that names no format is of format 1 while that can say it.
        """
        if not isinstance(fields, Mapping):
            return fields
        if info.mode == "json":  # behind this validator a list is no tuple any more
            fields = {
                key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
            }
        own = Release1.model_fields.keys()
        if "format" not in fields and info.mode == "python":
            fields = {"format": 1 if fields.keys() <= own else RELEASE_FORMAT, **fields}
        if fields.get("format") != 1:
            return fields
        if info.mode == "json" and (strange := sorted(fields.keys() - own)):
            raise ValueError(f"`{strange[0]}` is not a key of format 1")
        gate = {**fields.get("render", {}), **{key: fields[key] for key in FORMAT_1_GATE if key in fields}}
        lifted = {key: value for key, value in fields.items() if key not in FORMAT_1_GATE}
        lifted["render"] = {key: gate[key] for key in FORMAT_1_GATE if gate.get(key) is not None}
        if fields.get("kind", "concept") == "concept":
            lifted.setdefault("architecture", ARCHITECTURE)
        return lifted

    @model_validator(mode="after")
    def _whole(self) -> Release:
        if self.format == 1:
            self.as_format_1()
        elif self._later is None and self.kind == "concept" and None in (self.family, self.architecture):
            raise ValueError("a concept's release tells its architecture and family")
        return self

    def as_format_1(self) -> Release1:
        """The release in format 1's fields. Raises ValueError where they cannot say it."""
        plain = self.method == DEFAULT_METHOD and self.requires_perf is None and self.preview is None
        if not plain or self.architecture not in (None, ARCHITECTURE):
            raise ValueError("format 1 of releases has perfusion on Stable Diffusion alone")
        gate = {key: self.render.get(key) for key in FORMAT_1_GATE}
        fields: dict[str, Any] = {
            name: getattr(self, name) for name in Release1.model_fields if name not in gate
        }
        return Release1(**fields | gate)

    @model_serializer(mode="wrap")
    def _spelt(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """In the fields of its own format."""
        if self._later is not None:
            signed = self.signature is not None
            return {key: value for key, value in self._later.items() if signed or key != "signature"}
        if self.format != 1:
            return self._ordered(handler(self))
        return self.as_format_1().model_dump(mode=info.mode, exclude_none=info.exclude_none)

    def signed_bytes(self) -> bytes:
        """What a signature covers: every field but the signature, in the spelling of its format."""
        return self.model_copy(update={"signature": None}).model_dump_json(exclude_none=True).encode()


class _Told(BaseModel):
    """What a release of any format says."""

    name: Name
    version: Version
    kind: Literal["concept", "pack"] = "concept"
    sha256: Sha256
    size: Annotated[int, Field(ge=1, le=LARGEST_BLOB)]
    signature: Signature | None = None


def _is_later(format_: object) -> bool:
    return isinstance(format_, int) and not isinstance(format_, bool) and format_ > RELEASE_FORMAT


def preview_of(release: Release) -> Release | None:
    """A release whose blob is the preview of another, for whoever reads blobs; None where it has none."""
    shown = release.preview
    return release.model_copy(update={"sha256": shown.sha256, "size": shown.size}) if shown else None


def blobs_of(release: Release, blob: bytes, preview: bytes | None) -> list[tuple[Release, bytes]]:
    """The blobs of a release, each with a release that names it alone.

    Raises ValueError where they are not the ones that it names.
    """
    pairs = [(release, blob)]
    shown = preview_of(release)
    if shown is not None and preview is not None:
        pairs.append((shown, preview))
    if (shown is None) != (preview is None) or any(
        hashlib.sha256(data).hexdigest() != named.sha256 or len(data) != named.size for named, data in pairs
    ):
        raise ValueError(f"the bytes of {release.name} {release.version} are not those of its release")
    return pairs


class _EitherFormat:
    """In the JSON Schema, a release of format 2 or 1."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [handler(core), handler(Release1.__pydantic_core_schema__)]}


AnyRelease = Annotated[Release, _EitherFormat()]
"""A release in the fields of its own format, as models of files and results have it."""
