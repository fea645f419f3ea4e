"""What a picture says about itself: a PNG text chunk from which the very same pixels can be drawn again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from PIL import Image, PngImagePlugin
from pydantic import Field, ValidationError, model_validator

from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.model import FileModel
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
    computed in. The composition names the base and the artifacts by digest.
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

    @model_validator(mode="after")
    def _index_in_batch(self) -> RenderRecord:
        if self.index >= len(self.request.seeds):
            raise ValueError(f"it is picture {self.index} of {len(self.request.seeds)}")
        return self

    @property
    def seed(self) -> int:
        """The seed of this picture's noise."""
        return self.request.seeds[self.index]

    def same_picture(self, other: RenderRecord) -> bool:
        """Whether both ask for the same picture; the versions of the software do not count."""
        return _asked(self) == _asked(other)

    def to_json(self) -> str:
        """The text of the chunk: the same record gives the same bytes."""
        return self.model_dump_json()


def sheet_digest(records: Sequence[RenderRecord]) -> str:
    """The digest of what a sheet of these pictures shows; versions of the software do not count."""
    text = "".join(record.model_copy(update={"perf": "", "libraries": {}}).to_json() for record in records)
    return sha256(text.encode()).hexdigest()


def _asked(record: RenderRecord) -> tuple[Composition, RenderRequest, int, str, str, str]:
    request = record.request.model_copy(update={"batch": len(record.request.seeds)})
    return (record.composition, request, record.index, record.device, record.dtype, record.compute_dtype)


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
    )


def png_bytes(image: Image.Image, record: RenderRecord) -> bytes:
    """Encode a picture as PNG with its record and, for other programs, its prompt."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("Description", record.composition.prompt)
    chunks.add_itxt("Software", f"perf {record.perf}")
    chunks.add_itxt(CHUNK, record.to_json(), zip=True)
    file = BytesIO()
    image.save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def sheet_bytes(sheet: Image.Image, records: Sequence[RenderRecord]) -> bytes:
    """Encode a contact sheet as PNG, marked with the pictures that it shows."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt(SHEET_CHUNK, sheet_digest(records))
    file = BytesIO()
    sheet.save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def read_sheet_digest(path: Path) -> str | None:
    """The mark of a contact sheet; None when the file is anything else."""
    try:
        text = _chunk(path, SHEET_CHUNK)
    except PerfError:
        return None
    return text if isinstance(text, str) else None


def read_metadata(path: Path) -> RenderRecord:
    """Read the record of a picture, without decoding its pixels; nothing in the file is trusted.

    Raises PerfError when the file is missing, is no picture, carries no record, or a damaged one.
    """
    where = str(path)
    text = _chunk(path, CHUNK)
    if not isinstance(text, str):
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


def _chunk(path: Path, name: str) -> object:
    """Read one text chunk of a PNG file; None when it has none. Raises PerfError when it is no PNG file."""
    where = str(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                text: object = image.info.get(name)
    except FileNotFoundError as error:
        raise PerfError("there is no picture here", where=where) from error
    except OSError as error:
        raise PerfError(
            f"this is not a PNG picture that can be read: {error.strerror or 'damaged, or another format'}",
            where=where,
            hint="`--from` takes a picture that `perf render` has written",
        ) from error
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PerfError(f"the picture is damaged or hostile: {error}", where=where) from error
    return text


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
