"""Drawing on paper: colours, type and tiles, for contact sheets and sweeps."""

from __future__ import annotations

from functools import cache

from PIL import Image, ImageDraw, ImageFont

PAPER = (250, 249, 246)
INK = (33, 33, 36)
QUIET = (120, 118, 112)
RULE = (222, 219, 211)
MARGIN = 56
GAP = 20


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable typeface at `size` pixels."""
    return ImageFont.load_default(size)


def printable(text: str) -> str:
    """Replace what a line of type cannot show by spaces, and runs of white space by one."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def text_width(text: str, size: int) -> int:
    """The width in pixels of one line of `text`."""
    left, _, right, _ = font(size).getbbox(text)
    return round(right - left)


def line_height(size: int) -> int:
    """The distance in pixels from one line of type to the next."""
    return round(size * 1.35)


def wrapped(text: str, size: int, width: int, lines: int) -> list[str]:
    """Break `text` into at most `lines` lines of `width` pixels; what does not fit ends in an ellipsis."""
    broken: list[str] = []
    for word in printable(text).split(" "):
        if broken and text_width(f"{broken[-1]} {word}", size) <= width:
            broken[-1] = f"{broken[-1]} {word}"
        else:
            broken.append(word)
    shown = [_shortened(line, size, width) for line in broken[:lines]]
    if len(broken) > lines:
        shown[-1] = _shortened(f"{shown[-1]} ...", size, width, cut=True)
    return shown


def _shortened(line: str, size: int, width: int, *, cut: bool = False) -> str:
    line = line.removesuffix(" ...") if cut else line
    tail = " ..." if cut else ""
    while line and text_width(line + tail, size) > width:
        line, tail = line[:-1].rstrip(), "..."
    return line + tail


def write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size: int,
    *,
    ink: tuple[int, int, int] = INK,
    anchor: str = "la",
) -> None:
    """Set one line of type. anchor: as in Pillow, "la" left, "ma" centred, "rm" right and in the middle."""
    draw.text(at, printable(text), fill=ink, font=font(size), anchor=anchor)


def tile(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale a picture to fill `size` (width, height) as far as its proportions allow, centred on paper."""
    width, height = size
    scale = min(width / image.width, height / image.height)
    scaled = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    fitted = image.convert("RGB").resize(scaled, Image.Resampling.LANCZOS)
    paper = Image.new("RGB", size, PAPER)
    paper.paste(fitted, ((width - scaled[0]) // 2, (height - scaled[1]) // 2))
    return paper


def tile_size(image: Image.Image, long_side: int) -> tuple[int, int]:
    """The width and height of a tile with the proportions of `image`, its longer side `long_side` pixels."""
    scale = long_side / max(image.size)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))
