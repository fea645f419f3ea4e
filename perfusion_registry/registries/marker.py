"""What says that a bucket holds a registry, and of which format: `perf-registry.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.registries.bucket import Bucket, StoredObject
from perfusion_registry.registries.index import first_mistake
from perfusion_registry.registries.registry import NoRegistryError, RegistryError

MARKER_KEY = "perf-registry.json"
MARKER_FORMAT = 1
_LARGEST_MARKER = 4096


class RegistryMarker(FileModel):
    """`perf-registry.json`: that this is a registry, and of which format.

    A newer perf may add keys; what an older one must not overlook has another format.
    """

    model_config = ConfigDict(extra="ignore")

    format: Annotated[int, Field(ge=1)] = MARKER_FORMAT
    name: Annotated[str, Field(max_length=200)]


def check_marker(bucket: Bucket, *, make: RegistryMarker | None = None) -> None:
    """Raise RegistryError unless the bucket holds a registry that this perf knows. make: to be written where
    it holds none."""
    stored = bucket.get(MARKER_KEY, limit=_LARGEST_MARKER)
    if stored is None and make is not None:
        bucket.create(MARKER_KEY, make.model_dump_json().encode() + b"\n")
        stored = bucket.get(MARKER_KEY, limit=_LARGEST_MARKER)
    if not isinstance(stored, StoredObject):
        where, hint = _looked_in(bucket)
        raise NoRegistryError("there is no registry here", where=where, hint=hint)
    try:
        marker = RegistryMarker.model_validate_json(stored.data)
    except ValidationError as error:
        raise RegistryError(
            f"this is not a registry: its {MARKER_KEY} is malformed, {first_mistake(error)}",
            where=bucket.url,
        ) from error
    if marker.format > MARKER_FORMAT:
        raise RegistryError(
            f"the registry has format {marker.format}; this perf knows up to {MARKER_FORMAT}",
            where=bucket.url,
            hint="upgrade perf (`pip install -U perfusion-registry`)",
        )


def _looked_in(bucket: Bucket) -> tuple[str, str]:
    """Where a registry was looked for, and what to do; of a relative folder, which folder that is from where
    it was named."""
    first = "the first `perf publish` to a folder or bucket makes it a registry"
    if "://" in bucket.url or Path(bucket.url).is_absolute() or not Path(bucket.identity).is_absolute():
        return bucket.url, f"check the address; {first}"
    return f"{bucket.url}, which is {bucket.identity}", (
        "a relative folder is seen from the manifest or lockfile that names it: name a lockfile where it was "
        f"made (`perf sync PROJECT/perfusion.lock`), or the folder in full; {first}"
    )
