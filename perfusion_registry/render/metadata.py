"""What a picture says about itself: a text from which the very same pixels can be drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from PIL import Image
from pydantic import Field, ValidationError, model_validator

from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.base.upscaler import find_upscaler
from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Sha256
from perfusion_registry.render.formats import PictureFormat, encoded, exif_of, read_text
from perfusion_registry.render.parameters import parameters
from perfusion_registry.render.request import RenderRequest
from perfusion_registry.version import __version__

if TYPE_CHECKING:
    from perfusion_registry.base import Base

CHUNK = "perf"
SHEET_CHUNK = "perf-sheet"
LARGEST_CHUNK = 1024 * 1024
_LIBRARIES = ("torch", "diffusers", "transformers")


class RenderRecord(FileModel):
    """Everything that decided a picture.

    request: with the seeds of the pictures that were drawn at once; index: which of them this is. perf,
    libraries: versions. device: cpu, cuda or mps. dtype, compute_dtype: of the weights, and what the denoiser
    computed in. The composition names the base and the artifacts by digest. upscaler: digest of what enlarged
    the picture. offload: what of the base was on the device only while it computed.
    """

    schema_version: Literal[1] = 1
    composition: Composition
    request: RenderRequest
    index: Annotated[int, Field(ge=0)] = 0
    device: str
    dtype: str
    compute_dtype: str
    perf: str
    libraries: dict[str, str] = Field(default_factory=dict)
    upscaler: Annotated[Sha256 | None, Field(exclude_if=lambda value: value is None)] = None
    offload: Annotated[Offload | None, Field(exclude_if=lambda value: value is None)] = None

    @model_validator(mode="after")
    def _index_in_batch(self) -> RenderRecord:
        if self.index >= len(self.request.seeds):
            raise ValueError(f"it is picture {self.index} of {len(self.request.seeds)}")
        return self

    @property
    def seed(self) -> int:
        """The seed of this picture's noise."""
        return self.request.seeds[self.index]

    def same_picture(self, other: RenderRecord, *, on_any_processor: bool = False) -> bool:
        """Whether both ask for the same picture; the versions of the software do not count, nor, where it may
        be drawn on any processor, device and number formats."""
        if on_any_processor:
            names = ("device", "dtype", "compute_dtype", "offload")
            other = other.model_copy(update={name: getattr(self, name) for name in names})
        return _asked(self) == _asked(other)

    def to_json(self) -> str:
        """The text of the chunk: the same record gives the same bytes."""
        return self.model_dump_json()


def sheet_digest(records: Sequence[RenderRecord]) -> str:
    """The digest of what a sheet of these pictures shows; versions of the software do not count."""
    text = "".join(record.model_copy(update={"perf": "", "libraries": {}}).to_json() for record in records)
    return sha256(text.encode()).hexdigest()


def _asked(record: RenderRecord) -> RenderRecord:
    request = record.request.model_copy(update={"batch": len(record.request.seeds)})
    return record.model_copy(update={"request": request, "perf": "", "libraries": {}})


def record(base: Base, composition: Composition, request: RenderRequest, index: int) -> RenderRecord:
    """Describe picture `index` of `request`, drawn here and now with `base`."""
    return RenderRecord(
        composition=composition,
        request=request,
        index=index,
        device=base.device.type,
        dtype=str(base.dtype).removeprefix("torch."),
        compute_dtype=str(base.compute_dtype).removeprefix("torch."),
        perf=__version__,
        libraries={name: version for name in _LIBRARIES if (version := _version(name))},
        upscaler=find_upscaler(base.description).digest if request.upscale else None,
        offload=base.offload,
    )


def picture_bytes(
    image: Image.Image, record: RenderRecord, kind: PictureFormat = "png", quality: int | None = None
) -> bytes:
    """Encode a picture with its record and, for other programs, its prompt and parameters.

    quality: of JPEG and WebP, as in `encoded`, which says what is raised.
    """
    return encoded(image, kind, CHUNK, record.to_json(), **_texts(record), quality=quality)


def png_bytes(image: Image.Image, record: RenderRecord) -> bytes:
    """Encode a picture as PNG with its record and, for other programs, its prompt and parameters."""
    return picture_bytes(image, record)


def check_record(record: RenderRecord, kind: PictureFormat) -> None:
    """Raise PerfError where a picture of this format cannot hold its record."""
    if kind == "jpeg":
        exif_of(kind, CHUNK, record.to_json(), **_texts(record))


def sheet_bytes(
    sheet: Image.Image,
    records: Sequence[RenderRecord],
    kind: PictureFormat = "png",
    quality: int | None = None,
) -> bytes:
    """Encode a contact sheet, marked with the pictures that it shows."""
    return encoded(sheet, kind, SHEET_CHUNK, sheet_digest(records), quality=quality)


def read_sheet_digest(path: Path) -> str | None:
    """The mark of a contact sheet; None when the file is anything else."""
    try:
        return read_text(path, SHEET_CHUNK, LARGEST_CHUNK)
    except PerfError:
        return None


def _texts(record: RenderRecord) -> dict[str, str]:
    return {
        "description": record.composition.prompt,
        "software": f"perf {record.perf}",
        "parameters": parameters(record.composition, record.request, record.seed, record.perf),
    }


def read_metadata(path: Path) -> RenderRecord:
    """Read the record of a picture, without decoding its pixels; nothing in the file is trusted.

    Raises PerfError when the file is missing, is no picture, carries no record, or a damaged one.
    """
    where = str(path)
    text = read_text(path, CHUNK, LARGEST_CHUNK)
    if text is None:
        raise PerfError(
            "the picture carries no record of how it was drawn",
            where=where,
            hint="`--from` takes a picture that `perf render` wrote; editors and websites drop the record",
        )
    if len(text) > LARGEST_CHUNK:
        raise PerfError("the picture's record is too long to be one of perf's", where=where)
    try:
        return RenderRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "record"
        raise PerfError(
            f"the picture's record cannot be used: {key}: {first['msg'].removeprefix('Value error, ')}",
            where=where,
            hint="it was written by another version of perf, or changed since",
        ) from error


@cache  # reading it takes milliseconds, and every picture says three
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
