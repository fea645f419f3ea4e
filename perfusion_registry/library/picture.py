"""A picture that knows how it was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.render.metadata import RenderRecord, png_bytes
from perfusion_registry.render.output import check_formats, write_picture

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, and the record from which `perf render --from` draws it again to the pixel.

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

    def save(self, path: str | Path) -> None:
        """Write the PNG file, whole or not at all, making its folder; what was there is replaced.

        Raises PerfError for a name that does not end in `.png`: other formats would lose the record.
        """
        path = Path(path)
        if path.is_dir():
            path = path / f"{self.seed}.png"
        check_formats(None, path)
        write_picture(path, self.png())
