"""Where pictures go: names from the prompt and the seed, and never over another picture unasked."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.writing import replace_bytes, require_writable, write_error
from perfusion_registry.render.formats import NAMES, PictureFormat, check_writable, format_of
from perfusion_registry.render.metadata import RenderRecord, read_metadata, read_sheet_digest, sheet_digest

LONGEST_SLUG = 60


def slug(prompt: str) -> str:
    """A file name's stem from a prompt: lower-case ASCII words joined by `-`, at most 60 characters."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    stem = ""
    for word in words:
        if len(stem) + len(word) + 1 > LONGEST_SLUG:
            break
        stem = f"{stem}-{word}" if stem else word
    return stem or (words[0][:LONGEST_SLUG] if words else "picture")


def check_formats(out: Path | None, sheet: Path | None) -> None:
    """Raise PerfError when a picture or sheet is to be written in a format that is not one of `FORMATS`.

    out: may be a folder, whose name has another suffix, or none, or is there already.
    """
    for path in (out, sheet):
        wants_file = path is sheet or (path is not None and bool(path.suffix) and not path.is_dir())
        if path is not None and wants_file:
            kind = format_of(path)
            if kind is None:
                raise PerfError(
                    "pictures are written as PNG, JPEG or WebP",
                    where=str(path),
                    hint="let its name end in .png, .jpg or .webp",
                )
            check_writable(kind)


def chosen_format(out: Path | None, said: PictureFormat | None, quality: int | None) -> PictureFormat:
    """The format of pictures: that of the file `out`, else what is said, else PNG.

    Raises PerfError where the two differ, and for a quality that the format does not have.
    """
    named = format_of(out) if out is not None and is_file_name(out) else None
    if named and said and named != said:
        raise PerfError(
            f"--out names a {NAMES[named]} file, and --format asks for {NAMES[said]}",
            where=str(out),
            hint="leave --format out: the name decides",
        )
    kind = named or said or "png"
    check_writable(kind)
    if quality is not None and kind == "png":
        raise PerfError(
            "PNG loses nothing, so it has no quality",
            where="--quality",
            hint="leave it out, or --format jpeg",
        )
    if quality is not None and not 1 <= quality <= 100:
        raise PerfError(f"a quality of {quality} is not one of 1 to 100", where="--quality")
    return kind


def is_file_name(path: Path) -> bool:
    """Whether a path names one picture, and not the folder of pictures."""
    return format_of(path) is not None and not path.is_dir()


def picture_paths(
    out: Path | None,
    stem: str,
    records: Sequence[RenderRecord],
    taken: set[Path] | None = None,
    *,
    force: bool,
    suffix: str = ".png",
    elsewhere: bool = False,
) -> list[Path]:
    """Choose a file for each picture before it is drawn.

    out: a file (with several pictures, `-<seed>` is put before its suffix), or a folder; by default the
    working directory. Below a folder, a picture is called `<stem>-<seed>` with `suffix`, and where that name
    holds another picture, the next free of `-2`, `-3`, and so on. taken: names of other pictures that are yet
    to be drawn; those chosen here are added. elsewhere: another machine draws them, whatever its processor.
    Raises PerfError when a named file holds anything but the same picture, unless `force`.
    """
    if out is not None and is_file_name(out):
        paths = [out] if len(records) == 1 else [out.with_stem(f"{out.stem}-{r.seed}") for r in records]
        for path, record in zip(paths, records, strict=True):
            if not force and not _free(path, record, elsewhere):
                raise PerfError(
                    "there is another file here already",
                    where=str(path),
                    hint="choose another --out, or overwrite it with --force",
                )
        return paths
    folder = out or Path()
    taken = set() if taken is None else taken
    paths = []
    for record in records:

        def free(path: Path, record: RenderRecord = record) -> bool:
            return path not in taken and (force or _free(path, record, elsewhere))

        paths.append(next_free(folder / f"{stem}-{record.seed}{suffix}", free))
        taken.add(paths[-1])
    return paths


def check_sheet(path: Path, records: Sequence[RenderRecord], *, force: bool) -> None:
    """Raise PerfError when `path` holds anything but a sheet of the same pictures, unless `force`."""
    if path.exists() and not force and read_sheet_digest(path) != sheet_digest(records):
        raise PerfError(
            "there is another file here already",
            where=str(path),
            hint="choose another name, or overwrite it with --force",
        )


def check_places(pictures: Sequence[Path], sheet: Path | None) -> None:
    """Raise PerfError, before anything is drawn, where a picture or the sheet cannot be written."""
    for path in {path.parent: path for path in pictures}.values():
        require_writable(path, _elsewhere("--out"))
    if sheet is not None:
        require_writable(sheet, _elsewhere("--sheet"))


def write_picture(path: Path, data: bytes, option: str = "--out") -> None:
    """Write a file whole or not at all, making its folder. option: which chose it."""
    hint = _elsewhere(option)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, path.parent, hint) from error
    replace_bytes(path, data, hint=hint)


def _elsewhere(option: str) -> str:
    return f"choose another place with {option}"


def _free(path: Path, record: RenderRecord, elsewhere: bool = False) -> bool:
    """Whether `path` is free, or holds the picture that `record` describes. elsewhere: on any processor."""
    if not path.exists():
        return True
    try:
        return read_metadata(path).same_picture(record, on_any_processor=elsewhere)
    except PerfError:
        return False


def next_free(path: Path, free: Callable[[Path], bool]) -> Path:
    """A path, or the first of `-2`, `-3`, and so on that is free. free: or may be written again."""
    candidate, number = path, 1
    while not free(candidate):
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    return candidate
