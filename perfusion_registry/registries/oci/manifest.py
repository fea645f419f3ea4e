"""What is stored in an OCI registry: artifact manifests, and the bytes that they name by digest.

A release is an artifact manifest (OCI image specification 1.1) whose config is the release's JSON, embedded
in the descriptor as well so that one request reads it, and whose one layer is the blob. Claims and yanks are
notes: manifests that carry only annotations. Every manifest is bytes first, hashed before they are parsed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perfusion_registry.registries.index import LARGEST_LINE, LONGEST_REASON, first_mistake
from perfusion_registry.registries.oci.tag import tag_version, version_tag
from perfusion_registry.registries.registry import RegistryError
from perfusion_registry.registries.release import LARGEST_BLOB, Release, preview_of

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONCEPT_TYPE = "application/vnd.perf.concept.v1+json"
RELEASE_TYPE = "application/vnd.perf.release.v1+json"
CLAIM_TYPE = "application/vnd.perf.claim.v1+json"
YANK_TYPE = "application/vnd.perf.yank.v1+json"
ENTRY_TYPE = "application/vnd.perf.entry.v1+json"

_BLOB_TYPES = {
    "concept": "application/vnd.perf.concept.v1+safetensors",
    "pack": "application/vnd.perf.pack.v1+toml",
}
_PREVIEW_TYPE = "image/jpeg"
_SUFFIXES = {"concept": "safetensors", "pack": "toml"}
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_ANNOTATION = "org.opencontainers.image."
_PUBLISHER = "vnd.perf.publisher"
_YANKED = "vnd.perf.yanked"
_REASON = "vnd.perf.reason"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
EMPTY = b"{}"
"""The config and layer of a manifest that carries only annotations."""


class _Loose(BaseModel):
    """Part of a manifest: the fields that perf reads; there may be others."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", populate_by_name=True)


class Descriptor(_Loose):
    """Some bytes by their digest and size; `data` is the bytes themselves in base64, if embedded."""

    media_type: Annotated[str, Field(alias="mediaType", max_length=255)]
    digest: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, le=LARGEST_BLOB)]
    data: str | None = None
    annotations: dict[str, str] = Field(default_factory=dict)

    def embedded(self) -> bytes | None:
        """The embedded bytes, where they are what the digest says."""
        if self.data is None:
            return None
        try:
            data = base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError):
            return None
        return data if len(data) == self.size and digest_of(data) == self.digest else None


class _Body(_Loose):
    schema_version: Annotated[int, Field(alias="schemaVersion", ge=2, le=2)]
    media_type: Annotated[str | None, Field(alias="mediaType")] = None
    artifact_type: Annotated[str | None, Field(alias="artifactType")] = None
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    annotations: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class OciManifest:
    """A manifest as bytes, with their digest and media type."""

    data: bytes
    media_type: str = MANIFEST_TYPE

    @property
    def digest(self) -> str:
        """The digest under which the registry has it."""
        return digest_of(self.data)

    def body(self, where: str) -> _Body:
        """The manifest parsed; raises RegistryError when it is not one."""
        try:
            return _Body.model_validate_json(self.data)
        except ValidationError as error:
            raise RegistryError(
                f"the registry answers with a manifest that cannot be read ({first_mistake(error)})",
                where=where,
                hint="tell the registry's owner; perf refuses it",
            ) from error


def digest_of(data: bytes) -> str:
    """The OCI digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether `text` is a SHA-256 digest as OCI spells it."""
    return _DIGEST.match(text) is not None


def release_bytes(release: Release) -> bytes:
    """The config blob of a release: its JSON, in one spelling."""
    return release.model_dump_json(exclude_none=True).encode()


def release_manifest(release: Release) -> OciManifest:
    """The artifact manifest of a release; the same release gives the same bytes."""
    config = release_bytes(release)
    annotations = {"title": release.name, "version": release.version}
    if release.licence is not None:
        annotations["licenses"] = release.licence
    if release.description is not None:
        annotations["description"] = release.description
    if release.authors:
        annotations["authors"] = ", ".join(release.authors)
    stem = f"{release.name}-{release.version}"
    files = [(release, _BLOB_TYPES[release.kind], f"{stem}.{_SUFFIXES[release.kind]}")]
    if (shown := preview_of(release)) is not None:
        files.append((shown, _PREVIEW_TYPE, f"{stem}.jpg"))
    return _manifest(
        CONCEPT_TYPE,
        _descriptor(RELEASE_TYPE, config, embed=True),
        [
            {
                "mediaType": media_type,
                "digest": f"sha256:{named.sha256}",
                "size": named.size,
                "annotations": {f"{_ANNOTATION}title": title},
            }
            for named, media_type, title in files
        ],
        {f"{_ANNOTATION}{key}": value for key, value in annotations.items()},
    )


def release_config(manifest: OciManifest, where: str) -> Descriptor:
    """The descriptor of a release's JSON; raises RegistryError when the manifest is not one of a release."""
    body = manifest.body(where)
    if body.artifact_type != CONCEPT_TYPE or body.config is None or not body.layers:
        raise RegistryError(
            "this is not the manifest of a concept", where=where, hint="tell the registry's owner"
        )
    if body.config.size > LARGEST_LINE:
        raise RegistryError("the release is larger than any release is", where=where)
    return body.config


def is_release(manifest: OciManifest) -> bool:
    """Whether a manifest says that it is a release; the repository may hold other things."""
    try:
        return _Body.model_validate_json(manifest.data).artifact_type == CONCEPT_TYPE
    except ValidationError:
        return False


def claimed_release(manifest: OciManifest, where: str) -> str:
    """The version that a release's manifest is of, as its annotations spell it."""
    version = manifest.body(where).annotations.get(f"{_ANNOTATION}version", "")
    return version if tag_version(version_tag(version)) == version else ""


def read_release(manifest: OciManifest, config: bytes, name: str, version: str, where: str) -> Release:
    """The release of a manifest and its config, checked against each other and what was asked."""
    layers = [(layer.digest, layer.size) for layer in manifest.body(where).layers]
    try:
        release = Release.model_validate_json(config)
    except ValidationError as error:
        raise RegistryError(
            f"the registry answers with a release that cannot be read ({first_mistake(error)})",
            where=where,
            hint="tell the registry's owner, or update perf if the release is newer than it",
        ) from error
    if (release.name, release.version) != (name, version):
        raise RegistryError(
            f"the registry answers with the release {release.name} {release.version} "
            f"where {name} {version} was asked for",
            where=where,
            hint="tell the registry's owner; perf refuses it",
        )
    named = [release, *([shown] if (shown := preview_of(release)) else [])]
    # Behind those that this perf knows, a newer one may have put others.
    if layers[: len(named)] != [(f"sha256:{blob.sha256}", blob.size) for blob in named]:
        raise RegistryError(
            "the manifest's layers are not the blobs that the release names",
            where=where,
            hint="tell the registry's owner; perf refuses it",
        )
    return release


def claim_manifest(release: OciManifest, publisher: str) -> OciManifest:
    """A claim of a version: an index that holds the release's manifest and the publisher's mark."""
    return OciManifest(
        _json(
            {
                "schemaVersion": 2,
                "mediaType": INDEX_TYPE,
                "artifactType": CLAIM_TYPE,
                "manifests": [
                    {
                        "mediaType": release.media_type,
                        "digest": release.digest,
                        "size": len(release.data),
                        "artifactType": CONCEPT_TYPE,
                    }
                ],
                "annotations": {_PUBLISHER: publisher},
            }
        ),
        INDEX_TYPE,
    )


def read_claim(manifest: OciManifest, where: str) -> tuple[str, str]:
    """The digest of the claimed release manifest and the publisher's mark."""
    body = manifest.body(where)
    if len(body.manifests) != 1 or _PUBLISHER not in body.annotations:
        raise RegistryError(
            "the tag that publishers claim a version with holds something else",
            where=where,
            hint="delete that tag, or publish another version",
        )
    return body.manifests[0].digest, body.annotations[_PUBLISHER]


def yank_manifest(yanked: bool, reason: str) -> OciManifest:
    """A note on whether a version is yanked, and why."""
    annotations = {_YANKED: "true" if yanked else "false"}
    if reason:
        annotations[_REASON] = reason
    return _note(YANK_TYPE, annotations)


def read_yank(manifest: OciManifest, where: str) -> tuple[bool, str]:
    """Whether a version is yanked, and why; raises RegistryError when the manifest does not say."""
    annotations = manifest.body(where).annotations
    if annotations.get(_YANKED) not in ("true", "false"):
        raise RegistryError(
            "the tag that says whether the version is yanked holds something else",
            where=where,
            hint="yank or unyank the version again",
        )
    return annotations[_YANKED] == "true", annotations.get(_REASON, "")[:LONGEST_REASON]


def entry_manifest(name: str) -> OciManifest:
    """A note in the catalogue that there is a concept of this name."""
    return _note(ENTRY_TYPE, {f"{_ANNOTATION}title": name})


def _note(artifact_type: str, annotations: Mapping[str, str]) -> OciManifest:
    """A manifest that carries annotations and no bytes."""
    empty = _descriptor(_EMPTY_TYPE, EMPTY, embed=True)
    return _manifest(artifact_type, empty, [empty], annotations)


def _manifest(
    artifact_type: str,
    config: dict[str, Any],
    layers: list[dict[str, Any]],
    annotations: Mapping[str, str],
) -> OciManifest:
    return OciManifest(
        _json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "artifactType": artifact_type,
                "config": config,
                "layers": layers,
                "annotations": dict(annotations),
            }
        )
    )


def _descriptor(media_type: str, data: bytes, *, embed: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
    if embed:
        described["data"] = base64.b64encode(data).decode()
    return described


def _json(what: dict[str, Any]) -> bytes:
    return json.dumps(what, ensure_ascii=False, separators=(",", ":")).encode()
