"""Sheets of samples with their prompts, to look at while a network learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor


def save_sheet(images: Tensor, captions: Sequence[str], path: Path, *, columns: int = 8) -> None:
    """Write images (B, 3, h, w) in 0..1 as a grid, each with its caption below in at most three lines."""
    size, text = images.shape[-1], 40
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (size + 6), rows * (size + text + 6)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for k, (picture, caption) in enumerate(zip(pixels, captions, strict=True)):
        x, y = (k % columns) * (size + 6), (k // columns) * (size + text + 6)
        sheet.paste(Image.fromarray(picture), (x, y))
        width = size // 6
        lines = [""]
        for word in caption.split():
            if len(lines[-1]) + len(word) + 1 > width:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        pen.multiline_text((x + 1, y + size + 1), "\n".join(lines[:3]), fill="black", font=font, spacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
