"""A recipe's images and masks, known by their contents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.file_digests import sha256_of
from perfusion_registry.recipe.pictures import find_pictures


@dataclass(frozen=True)
class SourceImage:
    """One image with its mask, if it has one, and the SHA-256 of the bytes of each."""

    path: Path
    sha256: str
    mask: Path | None = None
    mask_sha256: str = ""


def find_images(
    folder: Path,
    images: Iterable[str],
    masks: Iterable[str],
    *,
    where: str,
    in_recipe: bool = True,
    need_masks: bool = False,
    digest: Callable[[Path], str] = sha256_of,
) -> tuple[SourceImage, ...]:
    """The images of a recipe with their masks, in the order of their contents' digests, which makes a build
    independent of file names.

    digest: the SHA-256 of a file's bytes, such as one that remembers (`FileDigests.sha256`). Arguments and
    errors are otherwise those of `find_pictures`.
    """
    pairs = find_pictures(folder, images, masks, where=where, in_recipe=in_recipe, need_masks=need_masks)
    read = [SourceImage(path, digest(path), mask, digest(mask) if mask else "") for path, mask in pairs]
    return tuple(sorted(read, key=lambda source: (source.sha256, source.mask_sha256)))
