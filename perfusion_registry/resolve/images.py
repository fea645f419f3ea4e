"""A recipe's images and masks: found by patterns, paired, and known by their contents."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.recipe.mask_files import image_stem, is_mask, mask_file

LARGEST_IMAGE = 512 * 1024 * 1024


@dataclass(frozen=True)
class SourceImage:
    """One image with its mask, if it has one, and the SHA-256 of the bytes of each."""

    path: Path
    sha256: str
    mask: Path | None = None
    mask_sha256: str = ""


def find_files(folder: Path, pattern: str) -> list[Path]:
    """The files that a pattern names, sorted by path.

    `*`, `?`, `[...]` match inside one folder name or file name, `**` any number of folders. Letter case is
    ignored on every system, so that `*.png` finds what a camera called `IMG.PNG`. Hidden files are only found
    by name. pattern: relative to `folder`, or absolute.
    """
    pure = PurePosixPath(pattern)
    absolute = pure.is_absolute() or bool(re.match(r"[A-Za-z]:/", pattern))
    start = Path(pure.anchor or pure.parts[0] + "/") if absolute else folder
    parts = pure.parts[1:] if absolute else pure.parts
    found = {path for path in _walk(start, parts) if path.is_file()}
    return sorted(found, key=lambda path: (path.as_posix().casefold(), path.as_posix()))


def find_images(
    folder: Path,
    images: Iterable[str],
    masks: Iterable[str],
    *,
    where: str,
    need_masks: bool = False,
    digest: Callable[[Path], str] = sha256_of,
) -> tuple[SourceImage, ...]:
    """The images of a recipe with their masks, in the order of their contents' digests.

    folder: the recipe's. A mask is a file that `masks` names with the stem of its image, or a file beside the
    image called `<stem>.mask.<extension>` (also `_mask`, `-mask`); such a file is never an image itself. The
    order by content makes a build independent of file names. where: names the recipe in errors. digest: the
    SHA-256 of a file's bytes, such as one that remembers (`FileDigests.sha256`). Raises PerfError for a
    pattern that matches nothing, a mask without an image, and, where `need_masks`, an image without a mask.
    """
    pictures: dict[Path, None] = {}
    for pattern in images:
        matched = [path for path in find_files(folder, pattern) if not is_mask(path)]
        if not matched:
            raise _no_match(folder, pattern, where, "concept.images")
        pictures.update(dict.fromkeys(matched))
    given: dict[str, Path] = {}
    for pattern in masks:
        matched = find_files(folder, pattern)
        if not matched:
            raise _no_match(folder, pattern, where, "concept.masks")
        given.update({image_stem(path).casefold(): path for path in matched})
    stray = set(given) - {path.stem.casefold() for path in pictures}
    if stray:
        raise PerfError(
            f"the mask `{given[min(stray)].name}` has no image of the same name",
            where=f"{where}, concept.masks",
            hint="a mask has the stem of its image: `1.png` for `1.jpg`",
        )
    sources = [_source(path, given.get(path.stem.casefold()) or mask_file(path), digest) for path in pictures]
    bare = next((source.path for source in sources if source.mask is None), None)
    if need_masks and bare is not None:
        raise PerfError(
            f'`{bare.name}` has no mask, and `mask = "files"` wants one for every image',
            where=f"{where}, train.mask",
            hint=f"put `{bare.stem}.mask.png` beside it, or choose another `mask`",
        )
    return tuple(sorted(sources, key=lambda source: (source.sha256, source.mask_sha256)))


def _source(path: Path, mask: Path | None, digest: Callable[[Path], str]) -> SourceImage:
    size = path.stat().st_size
    if size == 0:
        raise PerfError("the image is an empty file", where=str(path))
    if size > LARGEST_IMAGE:
        raise PerfError(f"the image is larger than {LARGEST_IMAGE // 2**20} MB", where=str(path))
    return SourceImage(path, digest(path), mask, digest(mask) if mask else "")


def _walk(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """Paths below `folder` whose components match `parts`, one by one."""
    if not parts:
        yield folder
        return
    head, rest = parts[0], parts[1:]
    if head == "..":
        yield from _walk(folder / "..", rest)
    elif head == "**":
        yield from _walk(folder, rest)
        for name in _names(folder):
            if not name.startswith(".") and (folder / name).is_dir() and not (folder / name).is_symlink():
                yield from _walk(folder / name, parts)
    else:
        wanted = re.compile(fnmatch.translate(head), re.IGNORECASE)
        for name in _names(folder):
            if (wanted.match(name) and (not name.startswith(".") or head.startswith("."))) or name == head:
                yield from _walk(folder / name, rest)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise PerfError(f"the folder cannot be read: {error.strerror or error}", where=str(folder)) from error


def _no_match(folder: Path, pattern: str, where: str, key: str) -> PerfError:
    looked = folder
    for part in PurePosixPath(pattern).parts[:-1]:
        if not (looked / part).is_dir():
            break
        looked = looked / part
    there = [name for name in _names(looked) if not name.startswith(".")]
    more = ", ..." if len(there) > 5 else ""
    return PerfError(
        f"no image matches `{pattern}`",
        where=f"{where}, {key}",
        hint=f"look in {looked}"
        + (f", which has {', '.join(there[:5])}{more}" if there else ", which is empty"),
    )
