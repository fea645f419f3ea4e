"""Sheets of samples with their prompts, to look at while a network learns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_TEXT = 40
_GAP = 6


def save_sheet(images: Tensor, captions: Sequence[str], path: Path, *, columns: int = 8) -> None:
    """Write images (B, 3, h, w) in 0..1 as a grid, each with its caption below in at most three lines."""
    size = images.shape[-1]
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (size + _GAP), rows * (size + _TEXT + _GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    for k, (picture, caption) in enumerate(zip(pixels, captions, strict=True)):
        x, y = (k % columns) * (size + _GAP), (k // columns) * (size + _TEXT + _GAP)
        sheet.paste(Image.fromarray(picture), (x, y))
        lines = textwrap.wrap(caption, max(8, size // 6))[:3]
        pen.multiline_text((x + 1, y + size + 1), "\n".join(lines), fill="black", font=font, spacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"partial-{path.name}")
    sheet.save(beside)
    beside.replace(path)
