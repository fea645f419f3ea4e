"""A picture that knows how it was drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.library.arguments import Answering
from perfusion_registry.library.controls import said_of_controls
from perfusion_registry.render.metadata import RenderRecord, picture_bytes, png_bytes, read_metadata
from perfusion_registry.render.output import check_formats, chosen_format, write_picture
from perfusion_registry.reporter import Logging, Reporter

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Picture(Answering):
    """A picture, and the record from which `redraw` draws it again to the pixel.

    image: PIL, RGB. record: composition, request, base and software; the saved file carries it.
    """

    image: Image.Image
    record: RenderRecord

    @property
    def seed(self) -> int:
        """The seed of its noise."""
        return self.record.seed

    @property
    def prompt(self) -> str:
        """Its prompt, with its stars."""
        return self.record.composition.prompt

    def png(self) -> bytes:
        """The bytes of a PNG file that carries the record; those that the command writes."""
        return png_bytes(self.image, self.record)

    def save(self, path: str | Path, *, quality: int | None = None) -> None:
        """Write a PNG, JPEG or WebP file, whole or not at all, making its folder; what was there is replaced.

        The file carries the record in every format. quality: 1 to 100 of JPEG and WebP, whose 100 loses
        nothing; None is 90. Raises PerfError for a name of another format.
        """
        path = Path(path)
        if path.is_dir():
            path = path / f"{self.seed}.png"
        check_formats(None, path)
        kind = chosen_format(path, None, quality)
        write_picture(path, picture_bytes(self.image, self.record, kind, quality))


def read_record(path: str | Path) -> RenderRecord:
    """What a picture file says about how it was drawn. Raises PerfError where it says nothing."""
    return read_metadata(Path(path))


def redraw(
    path: str | Path,
    *,
    image: str | Path | None = None,
    mask: str | Path | None = None,
    control: Mapping[str, str | Path] | None = None,
    folder: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    offload: Offload | None = None,
    store: str | Path | None = None,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Picture:
    """Draw a picture again from its own record, to the pixel where device and libraries are the same.

    Its base and artifacts must be on this machine. image, mask, control: the files that it was drawn
    from, where it was; no picture carries them. folder: of the project to look for the base in; default
    the working directory, where there need not be one, unless the base is a folder of the project. device,
    dtype: "auto" is what it was drawn with. The base is loaded for this picture alone; to draw variations of
    it, give `read_record(path).composition` to a composer. Raises PerfError.
    """
    from perfusion_registry.operations.compute import ComputeOptions
    from perfusion_registry.operations.job import PictureSource, RenderOverrides, load_job
    from perfusion_registry.operations.workspace import Workspace

    compute = ComputeOptions(device, dtype, offload=offload)
    source = PictureSource(picture=Path(path), compute=compute)
    with Workspace.open(
        Path(folder) if folder is not None else None,
        store=Path(store) if store else None,
        offline=offline,
        reporter=reporter or Logging(),
        lockfile_alone=True,
        optional=folder is None,
    ) as workspace:
        overrides = RenderOverrides(
            image=None if image is None else Path(image),
            mask=None if mask is None else Path(mask),
            **said_of_controls(control, None),
        )
        job = load_job(workspace, source, overrides)
        drawn = list(job.draw(workspace.reporter))
    picture = drawn[job.index or 0]
    return Picture(picture.image, picture.record)
