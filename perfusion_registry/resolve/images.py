"""A recipe's images and masks, known by their contents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.file_digests import sha256_of
from perfusion_registry.recipe.captions import NOTHING_SAID, Caption, caption_of
from perfusion_registry.recipe.pictures import find_pictures


@dataclass(frozen=True)
class SourceImage:
    """One image with its mask, if it has one, and the SHA-256 of the bytes of each. caption: what is said of
    it, where that was asked for."""

    path: Path
    sha256: str
    mask: Path | None = None
    mask_sha256: str = ""
    caption: Caption = NOTHING_SAID


def find_images(
    folder: Path,
    images: Iterable[str],
    masks: Iterable[str],
    *,
    where: str,
    in_recipe: bool = True,
    need_masks: bool = False,
    captions: bool = False,
    opened: Callable[[Path, Path | None], None] | None = None,
    digest: Callable[[Path], str] = sha256_of,
) -> tuple[SourceImage, ...]:
    """The images of a recipe with their masks, in the order of their contents' digests, which makes a build
    independent of file names.

    captions: whether what is said of them is read. digest: the SHA-256 of a file's bytes, such as one that
    remembers (`FileDigests.sha256`). Arguments and errors are otherwise those of `find_pictures`.
    """
    pairs = find_pictures(
        folder, images, masks, where=where, in_recipe=in_recipe, need_masks=need_masks, opened=opened
    )
    read = [
        SourceImage(
            path,
            digest(path),
            mask,
            digest(mask) if mask else "",
            caption_of(path) if captions else NOTHING_SAID,
        )
        for path, mask in pairs
    ]
    return tuple(sorted(read, key=_order))


def _order(source: SourceImage) -> tuple[str, str, str]:
    return source.sha256, source.mask_sha256, repr(source.caption.key())
