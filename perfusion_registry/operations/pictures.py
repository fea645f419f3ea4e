"""The pictures that `perf add` is given: found, opened, and named in a recipe."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.resolve import find_files, find_images

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")


def patterns(given: Sequence[str], name: str, recipe: Path, root: Path, *, copy: bool) -> list[str]:
    """The `images` of a new recipe: what the user gave, as seen from the recipe's folder.

    given: patterns or files, relative to the working directory; none means the folder beside the recipe that
    is called like the concept. Outside the project they stay absolute. copy: copy the pictures there first.
    """
    beside = recipe.parent / name
    if given and not copy:
        return [_from_recipe(pattern, recipe.parent, root) for pattern in given]
    if given:
        _copy([path for pattern in given for path in _matching(pattern)], beside)
    suffixes = {path.suffix.lower() for path in find_files(beside, "*")} & set(SUFFIXES)
    if not suffixes:
        raise PerfError(
            "there are no pictures to learn from",
            where=str(beside),
            hint=f"put some there, or run `perf add {name} --super WORD --images GLOB`",
        )
    return [f"{name}/*{suffix}" for suffix in sorted(suffixes)]


def check_pictures(recipe_folder: Path, images: Sequence[str], where: str) -> int:
    """Open every picture once; how many there are. Raises PerfError that lists all that cannot be opened."""
    sources = find_images(recipe_folder, images, (), where=where)
    broken = [f"{source.path}: {why}" for source in sources if (why := _broken(source.path))]
    if broken:
        listed = "".join(f"\n  - {line}" for line in broken)
        raise PerfError(f"{len(broken)} of {len(sources)} pictures cannot be used:{listed}", where=where)
    return len(sources)


def _broken(path: Path) -> str:
    """Why a picture cannot be opened, or nothing."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                picture.load()
    except UnidentifiedImageError:
        return "not a picture that can be read"
    except Image.DecompressionBombError:
        return "too many pixels"
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        return str(error) or "damaged"
    return ""


def _matching(pattern: str) -> list[Path]:
    found = find_files(Path(), pattern.replace(os.sep, "/"))
    if not found:
        raise PerfError(f"no picture matches `{pattern}`", where=f"--images, in {Path().absolute()}")
    return found


def _from_recipe(pattern: str, folder: Path, root: Path) -> str:
    _matching(pattern)
    absolute = Path(os.path.abspath(pattern))
    if absolute.is_relative_to(root):
        return Path(os.path.relpath(absolute, folder)).as_posix()
    return absolute.as_posix()


def _copy(paths: Sequence[Path], folder: Path) -> None:
    make_folder(folder)
    for path in paths:
        target = folder / path.name
        if target.exists() and target.resolve() != path.resolve():
            raise PerfError(
                "there is a picture of that name already", where=str(target), hint="rename one of the two"
            )
        try:
            if not target.exists():
                shutil.copyfile(path, target)
        except OSError as error:
            raise write_error(error, target) from error
