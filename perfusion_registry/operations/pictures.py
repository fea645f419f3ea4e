"""The pictures that `perf add` is given: found, opened, copied, and named in a recipe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfusion_registry.build.images import open_picture
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.recipe.captions import caption_file
from perfusion_registry.recipe.patterns import at_home, find_files, names_in
from perfusion_registry.recipe.pictures import PICTURES, UNREADABLE
from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.resolve import SourceImage, find_images


def given_images(patterns: Sequence[str], where: str) -> tuple[SourceImage, ...]:
    """The pictures of patterns or files from the working directory, each opened once.

    where: what to call them in errors. Raises PerfError that lists all that cannot be used.
    """
    return check_pictures(Path(), [pattern.replace(os.sep, "/") for pattern in patterns], where)


def check_pictures(
    folder: Path, images: Sequence[str], where: str, *, may_be_none: bool = False
) -> tuple[SourceImage, ...]:
    """Open every picture once. folder: what the patterns are relative to. may_be_none: patterns that match
    nothing yet are left out.

    Raises PerfError that lists all that cannot be opened.
    """
    if may_be_none:
        images = [pattern for pattern in images if find_files(folder, pattern)]
    sources = find_images(folder, images, (), where=where, in_recipe=False, opened=open_picture)
    check_readable([(source.path, None) for source in sources], where)
    return sources


def check_readable(pictures: Sequence[tuple[Path, Path | None]], where: str) -> None:
    """Read every picture, and the mask that is to be read with it, as a build does.

    Raises PerfError that lists all that cannot be used.
    """
    broken: list[PerfError] = []
    for path, mask in pictures:
        try:
            open_picture(path, mask)
        except PerfError as error:
            broken.append(error)
    if broken:
        listed = "".join(f"\n  - {error.where}: {error.what}" for error in broken)
        hints = dict.fromkeys(error.hint for error in broken if error.hint)
        raise PerfError(
            f"{len(broken)} of {len(pictures)} pictures cannot be used:{listed}",
            where=where,
            hint="; ".join(hints) or None,
        )


def patterns_of(given: Sequence[str], recipe: Path, root: Path) -> list[str]:
    """The `images` of a new recipe: what the user gave, as seen from the recipe's folder.

    given: patterns or files, relative to the working directory. Outside the project they stay absolute.
    """
    return [_from_recipe(pattern, recipe.parent, root) for pattern in given]


def patterns_beside(recipe: Path, name: str, copied: Sequence[Path] = ()) -> list[str]:
    """The `images` of a new recipe whose pictures are in the folder of the concept's name beside it.

    copied: pictures that are about to be copied there. Raises PerfError where there is none.
    """
    beside = recipe.parent / name
    there = [Path(other) for other in names_in(beside) if not other.startswith(".")]
    suffixes = {path.suffix.lower() for path in there} & {*PICTURES, *UNREADABLE}
    suffixes |= {path.suffix.lower() for path in copied}
    if not suffixes:
        raise PerfError(
            "there are no pictures to learn from",
            where=str(beside),
            hint=f"put some there, or run `perf add {name} --super WORD --images GLOB`",
        )
    return [f"{name}/*{suffix}" for suffix in sorted(suffixes)]


def copies(sources: Sequence[SourceImage], folder: Path, *, captions: bool = False) -> dict[Path, Path]:
    """Where pictures and their masks go when they are copied into a folder: by target, what is copied there.

    captions: whether the files with their captions go with them. Raises PerfError where a name is taken by
    something else, or two of the pictures have one name.
    """
    wanted: dict[Path, tuple[Path, str]] = {}
    for source in sorted(sources, key=lambda source: source.path):
        files = [(source.path, source.sha256)]
        if source.mask is not None:
            files.append((source.mask, source.mask_sha256))
        if captions and (caption := caption_file(source.path)) is not None:
            files.append((caption, sha256_of(caption)))
        for path, digest in files:
            target = folder / path.name
            there = wanted.get(target, (target, sha256_of(target) if target.is_file() else digest))
            if there[1] != digest or target.is_dir():
                raise PerfError(
                    f"two pictures are called `{path.name}`: {there[0]} and {path}",
                    where=str(folder),
                    hint="rename one of the two",
                )
            wanted[target] = path, digest
    return {target: path for target, (path, _) in wanted.items()}


def copy_files(wanted: Mapping[Path, Path], folder: Path) -> None:
    """Copy what `copies` tells into its folder, all of it or nothing; what is there stays."""
    make_folder(folder)
    copied: list[Path] = []
    for target, path in wanted.items():
        if target.exists():
            continue
        try:
            copied.append(target)
            shutil.copyfile(path, target)
        except OSError as error:
            for partial in copied:
                partial.unlink(missing_ok=True)
            raise write_error(error, target) from error


def _from_recipe(pattern: str, folder: Path, root: Path) -> str:
    """A pattern from the working directory as seen from a recipe's folder: relative within the project, by
    whichever links the project or the pattern is reached."""
    absolute = Path(os.path.abspath(at_home(pattern)))
    real = Path(os.path.realpath(absolute.parent)) / absolute.name
    for path, project, start in ((absolute, root, folder), (real, root.resolve(), folder.resolve())):
        if path.is_relative_to(project):
            return Path(os.path.relpath(path, start)).as_posix()
    return absolute.as_posix()
