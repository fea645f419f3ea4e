"""A recipe's pictures and their masks: found by patterns, and paired.

The one rule for all that is given pictures: recipes, `perf add`, `perf suggest-super`, suites, programs.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from perfusion_registry.errors import Mistakes, PerfError
from perfusion_registry.recipe.captions import ENDS, is_numbered
from perfusion_registry.recipe.mask_files import is_mask_alone, masked_stem
from perfusion_registry.recipe.patterns import at_home, matches, names_in, one_form

PICTURES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jfif", ".mpo", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""How names of pictures end that can be read: those of a folder that is named as a whole."""
UNREADABLE = (
    *(".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
    *(".psd", ".xcf", ".kra", ".svg", ".tga", ".jp2", ".j2k", ".jpx", ".exr", ".hdr", ".ico", ".pcx"),
)
"""How names of pictures end that cannot: they are told, and never passed over."""
LARGEST_IMAGE = 512 * 1024 * 1024
_LFS_POINTER = b"version https://git-lfs"
_HEIC = re.compile(rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", re.DOTALL)


def find_pictures(
    folder: Path,
    images: Iterable[str],
    masks: Iterable[str],
    *,
    where: str,
    in_recipe: bool = True,
    need_masks: bool = False,
    opened: Callable[[Path, Path | None], None] | None = None,
) -> list[tuple[Path, Path | None]]:
    """Pictures, each with its mask if it has one.

    folder: the recipe's. A pattern that names a folder means the pictures in it, and in the folders
    of kohya's names in it (`recipe.captions`). A mask is a file that
    `masks` names with the stem of its image, or a file beside the image called `<stem>.mask.<extension>`
    (also `_mask`, `-mask`); beside no image, a `<stem>_mask.png` is a picture like others. where: names the
    recipe in errors or, where the patterns are not `in_recipe`, how they were given.

    Raises PerfError, with all mistakes at once, for a pattern that matches nothing, files that can be no
    pictures, a mask that is not the mask of exactly one picture, two masks for one, a mask that is listed as
    a picture, and, where `need_masks`, an image without a mask. opened: reads a picture with its mask, and
    raises PerfError for one that is broken within; where there are mistakes the other pictures are read too,
    so that all are told, and where there are none nothing is.
    """
    mistakes = _Mistakes(where, in_recipe)
    pictures = _pictures(folder, images, mistakes)
    given = _given_masks(folder, masks, pictures, mistakes)
    pairs = []
    for path in pictures:
        mask = _mask_of(path, given.get(path), pictures, mistakes)
        if need_masks and mask is None:
            mistakes.add(
                f'`{path.name}` has no mask, and `mask = "files"` wants one for every image',
                mistakes.of_key("train.mask"),
                f"put `{path.stem}.mask.png` beside it, or choose another `mask`",
            )
        usable = [_is_usable(file, mistakes) for file in (path, mask) if file is not None]
        if all(usable):
            pairs.append((path, mask))
    if mistakes.found and opened is not None:
        for pair in pairs:
            try:
                opened(*pair)
            except PerfError as error:
                mistakes.found.append(error)
    mistakes.raise_any(mistakes.where)
    return pairs


def masks_beside(pictures: Sequence[Path]) -> tuple[Path | None, ...]:
    """The mask beside each picture, None where there is none. Raises PerfError as `find_pictures` does."""
    mistakes = _Mistakes("the pictures", in_recipe=False)
    masks = tuple(_mask_of(path, None, pictures, mistakes) for path in pictures)
    mistakes.raise_any(mistakes.where)
    return masks


class _Mistakes(Mistakes):
    """What is wrong with the files of a recipe. where, in_recipe: as in `find_images`."""

    def __init__(self, where: str, in_recipe: bool) -> None:
        super().__init__("the pictures")
        self.where = where
        self.in_recipe = in_recipe

    def of_key(self, key: str) -> str:
        """Where a key of the recipe is."""
        return f"{self.where}, {key}" if self.in_recipe else self.where


def _pictures(folder: Path, patterns: Iterable[str], mistakes: _Mistakes) -> list[Path]:
    """The files that are pictures by the patterns, each once."""
    pictures: dict[Path, None] = {}
    for pattern in patterns:
        matches = _files(folder, pattern)
        masks = [path for path in matches if _picture_of(path) is not None]
        if len(matches) == 1 == len(masks):
            picture = _picture_of(matches[0])
            assert picture is not None
            mistakes.add(
                f"`{matches[0].name}` is listed as a picture, and it is the mask of `{picture.name}`",
                mistakes.of_key("concept.images"),
                "leave it out, or give it another name",
            )
        elif len(matches) == len(masks):
            mistakes.found.append(_no_match(folder, pattern, mistakes.of_key("concept.images")))
        pictures.update(dict.fromkeys(path for path in matches if path not in masks))
    once: dict[str, Path] = {}  # by where a link leads: the same file is one picture
    for path in pictures:
        once.setdefault(os.path.realpath(path), path)
    pictures = dict.fromkeys(once.values())
    for path in pictures:
        if is_mask_alone(path):
            mistakes.add(
                f"the mask `{path.name}` has no image of the same name beside it",
                str(path),
                f"put its image there, or give it another name than `{path.name}`",
            )
    return list(pictures)


def _given_masks(
    folder: Path, patterns: Iterable[str], pictures: Sequence[Path], mistakes: _Mistakes
) -> dict[Path, Path]:
    """The masks that a recipe lists, by their pictures."""
    given: dict[Path, Path] = {}
    at = mistakes.of_key("concept.masks")
    for pattern in patterns:
        matches = _files(folder, pattern)
        if not matches:
            mistakes.found.append(_no_match(folder, pattern, at))
        for mask in matches:
            if mask in pictures:
                mistakes.add(
                    f"`{mask.name}` is listed as a picture and as a mask",
                    at,
                    "choose one",
                )
                continue
            named = {one_form(mask.stem), one_form(masked_stem(mask) or mask.stem)}
            for_them = [path for path in pictures if one_form(path.stem) in named]
            if not for_them:
                mistakes.add(
                    f"the mask `{mask.name}` has no image of the same name",
                    at,
                    "a mask has the stem of its image: `1.png` for `1.jpg`",
                )
            elif len(for_them) > 1:
                mistakes.add(*_for_two(mask, for_them, at))
            elif given.setdefault(for_them[0], mask) != mask:
                mistakes.add(*_two_masks(for_them[0], [given[for_them[0]], mask], at))
    return given


def _mask_of(picture: Path, given: Path | None, pictures: Sequence[Path], mistakes: _Mistakes) -> Path | None:
    """The one mask of a picture: given, or beside it."""
    stem = one_form(picture.stem)
    beside = [
        path
        for name in names_in(picture.parent)
        if one_form(masked_stem(path := picture.parent / name) or "") == stem
        and path.is_file()
        and path not in pictures
    ]
    masks = list({path.resolve(): path for path in [*([given] if given else []), *beside]}.values())
    if len(masks) > 1:
        mistakes.add(*_two_masks(picture, masks, mistakes.of_key("concept.masks")))
    alike = [path for path in pictures if path.parent == picture.parent and one_form(path.stem) == stem]
    if beside and len(alike) > 1:
        if picture == alike[0]:  # told once
            mistakes.add(*_for_two(beside[0], alike, mistakes.of_key("concept.masks")))
        return None
    return masks[0] if masks else None


def _two_masks(picture: Path, masks: Sequence[Path], where: str) -> tuple[str, str, str]:
    return (
        f"`{picture.name}` has {len(masks)} masks: {', '.join(f'`{mask.name}`' for mask in masks)}",
        where,
        "keep one of them",
    )


def _for_two(mask: Path, pictures: Sequence[Path], where: str) -> tuple[str, str, str]:
    return (
        f"the mask `{mask.name}` could be that of {' and of '.join(f'`{path.name}`' for path in pictures)}",
        where,
        "give every picture a name of its own",
    )


def _picture_of(path: Path) -> Path | None:
    """The picture beside a file that is, by its name, the picture's mask; None for all other files."""
    stem = masked_stem(path)
    if stem is None:
        return None
    for name in names_in(path.parent):
        other = path.parent / name
        alike = one_form(other.stem) == one_form(stem)
        if alike and other.suffix.lower() in (*PICTURES, *UNREADABLE):
            return other
    return None


def _files(folder: Path, pattern: str) -> list[Path]:
    """What a pattern names: files, the pictures of folders, and links that lead nowhere; no captions, unless
    it names one of them alone."""
    files: dict[Path, None] = {}
    pictured: dict[Path, frozenset[str]] = {}
    several = any(sign in pattern for sign in "*?")
    for path in matches(folder, pattern):
        if not path.is_dir():
            if several and path.suffix.lower() in ENDS:
                beside = path.parent
                if beside not in pictured:
                    pictured[beside] = _stems_of_pictures(beside)
                if one_form(path.stem) in pictured[beside]:
                    continue
            files[path] = None
        elif not several:
            folders = [path, *(path / name for name in names_in(path) if is_numbered(name))]
            inside = [one / name for one in folders for name in names_in(one) if not name.startswith(".")]
            files.update(dict.fromkeys(p for p in inside if p.suffix.lower() in (*PICTURES, *UNREADABLE)))
    return list(files)


def _stems_of_pictures(folder: Path) -> frozenset[str]:
    """The stems of the pictures in a folder."""
    names = (Path(name) for name in names_in(folder))
    return frozenset(one_form(name.stem) for name in names if name.suffix.lower() in (*PICTURES, *UNREADABLE))


def _is_usable(path: Path, mistakes: _Mistakes) -> bool:
    """Whether a file may be a picture, as far as its first bytes tell."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "no plain file"
            mistakes.add(f"this is {what}, and no picture", str(path), "move it elsewhere")
            return False
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        mistakes.add("the link leads nowhere", str(path), "put its picture there, or remove the link")
        return False
    except OSError as error:
        what = f"the file cannot be read: {error.strerror or error}"
        mistakes.add(what, str(path), "let it be read, or remove it")
        return False
    size = found.st_size
    if size == 0:
        mistakes.add("the image is an empty file", str(path), "copy it again, or remove it")
    elif size > LARGEST_IMAGE:
        mistakes.add(f"the image is larger than {LARGEST_IMAGE // 2**20} MB", str(path), "scale it down")
    elif start.startswith(_LFS_POINTER):
        mistakes.add(
            "the file is a pointer of Git LFS and holds no picture",
            str(path),
            "fetch the pictures: `git lfs pull`",
        )
    elif path.suffix.lower() in UNREADABLE or _HEIC.match(start):
        kind = path.suffix.lower().removeprefix(".") if path.suffix.lower() in UNREADABLE else "heic"
        mistakes.add(f"{kind.upper()} pictures cannot be read", str(path), "save it as JPEG or PNG")
    else:
        return True
    return False


def _no_match(folder: Path, pattern: str, where: str) -> PerfError:
    expanded = at_home(pattern)
    inside = folder / expanded
    if inside.is_dir():
        there = [name for name in names_in(inside) if not name.startswith(".")]
        more = f"; it has {', '.join(there[:5])}{', ...' if len(there) > 5 else ''}" if there else ""
        hint = f"put some there, or name another{more}"
        return PerfError(f"there are no pictures in the folder `{pattern}`", where=where, hint=hint)
    if "://" in pattern:
        what = f"`{pattern}` is an address, and pictures are files"
        return PerfError(what, where=where, hint="download it, and name its file")
    looked = folder
    for part in PurePosixPath(expanded).parts[:-1]:
        if not (looked / part).is_dir():
            break
        looked = looked / part
    there = [name for name in names_in(looked) if not name.startswith(".")]
    more = ", ..." if len(there) > 5 else ""
    hint = f"look in {looked}, which " + (f"has {', '.join(there[:5])}{more}" if there else "is empty")
    if "," in pattern:
        hint = f"name pictures one by one, without commas between them; {hint}"
    return PerfError(f"no image matches `{pattern}`", where=where, hint=hint)
