"""Masks: soft weights that keep the loss on the concept and off its background (Section 4.4).

`files` are the user's own; `clipseg` segments by the supercategory word; `attention` asks the base itself
where it looks for that word; `none` weighs every place alike. `auto` takes the first of these that is at
hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.base import Segmenter
from perfusion_registry.build.framing import square
from perfusion_registry.build.images import LoadedImage, load_mask
from perfusion_registry.build.latents import encode_latents
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.prompts import TARGET_PROMPT, pieces
from perfusion_registry.reporter import Reporter, unheard

if TYPE_CHECKING:
    from perfusion_registry.base import Base

NOISE_LEVELS = (0.3, 0.45, 0.6)
"""Where attention is listened to, as fractions of the schedule: the layout is settled, details are not
yet."""
NOISES_PER_LEVEL = 2
MASK_STEPS = len(NOISE_LEVELS) * NOISES_PER_LEVEL
"""What finding masks counts as, whichever source they are from."""


@dataclass(frozen=True, eq=False)
class MaskRequest:
    """Whose masks are wanted.

    images: as they were read. files: a mask file of each, or its bytes, or None where it has none. pixels:
    (N, 3, h, w) in 0..1, the squared images. asked: whether the source was named, and not only tried.
    advance: told of the steps that a source takes, `MASK_STEPS` at most.
    """

    base: Base
    images: Sequence[LoadedImage]
    files: Sequence[Path | bytes | None]
    pixels: Tensor
    supercategory: str
    asked: bool
    reporter: Reporter
    advance: Callable[[int], None] = unheard


def find_masks(
    base: Base,
    images: Sequence[LoadedImage],
    files: Sequence[Path | bytes | None],
    supercategory: str,
    source: str,
    size: tuple[int, int],
    reporter: Reporter,
    advance: Callable[[int], None] = unheard,
) -> Tensor:
    """Soft masks (N, 1, h, w) fp32 on the CPU, zero or more, of the squared images.

    files: a mask file for each image, or None where there is none. source: one of `MASK_SOURCES`, or `auto`
    for the first of them that is at hand. size: (height, width) of the squared images.
    advance: told of `MASK_STEPS` steps.
    Deterministic for one kind of processor. Raises PerfError when the source that was asked for is not at
    hand.
    """
    pixels = torch.stack([square(image.pixels, size) for image in images])
    counted: list[int] = []

    def count(steps: int) -> None:
        counted.append(steps)
        advance(steps)

    if source not in ("files", "none"):
        _warn_of_unused(images, files, reporter)
    request = MaskRequest(base, images, files, pixels, supercategory, source != "auto", reporter, count)
    for name in MASK_SOURCES if source == "auto" else [source]:
        masks = MASK_SOURCES[name](request)
        if masks is not None:
            advance(MASK_STEPS - sum(counted))
            return masks
    raise PerfError(f"there is no mask source at hand, and {source!r} was asked for")


def _warn_of_unused(
    images: Sequence[LoadedImage], files: Sequence[Path | bytes | None], reporter: Reporter
) -> None:
    missing = [image.name for image, file in zip(images, files, strict=True) if file is None]
    if 0 < len(missing) < len(images):
        reporter.warn(f"{', '.join(missing)}: no mask file, so the mask files of the others are not used")


def masks_of_files(request: MaskRequest) -> Tensor | None:
    """The user's own. Tried, they are only used where every image has one."""
    given = [file is not None for file in request.files]
    if request.asked or all(given):
        size = (request.pixels.shape[-2], request.pixels.shape[-1])
        return _from_files(request.images, request.files, size)
    return None


def masks_of_clipseg(request: MaskRequest) -> Tensor | None:
    """What CLIPSeg finds for the supercategory: the base's, else the usual one. Tried, that is not
    downloaded."""
    own = request.base.description.options.segmenter
    try:
        segmenter = Segmenter.load(
            **({"source": own.place} if own is not None else {}),
            device=request.base.device,
            allow_download=None if request.asked else False,
        )
    except PerfError:
        if request.asked or own is not None:
            raise
        return None
    request.reporter.note(f"masks: CLIPSeg looks for {request.supercategory!r}")
    masks = segmenter.masks(request.pixels, request.supercategory)[:, None].cpu()
    return _usable(masks, request.images, request.reporter)


def masks_of_attention(request: MaskRequest) -> Tensor:
    """Where the base itself looks for the supercategory."""
    request.reporter.note(f"masks: the base's own attention to {request.supercategory!r}")
    masks = attention_masks(request.base, request.pixels, request.supercategory, advance=request.advance)
    return _usable(masks, request.images, request.reporter)


def masks_of_nothing(request: MaskRequest) -> Tensor:
    """Every place weighs alike."""
    return torch.ones(len(request.images), 1, *request.pixels.shape[-2:])


MASK_SOURCES: Mapping[str, Callable[[MaskRequest], Tensor | None]] = {
    "files": masks_of_files,
    "clipseg": masks_of_clipseg,
    "attention": masks_of_attention,
    "none": masks_of_nothing,
}
"""What finds masks (N, 1, h, w), by the name that a recipe has for it, in the order in which `auto` tries
them. None where a source lacks something, which is told only to whoever asked for it by name."""


def attention_masks(
    base: Base,
    pixels: Tensor,
    supercategory: str,
    prompts: Sequence[str] = (),
    *,
    advance: Callable[[int], None] = unheard,
) -> Tensor:
    """Where the base looks for the supercategory word in these pictures, from its own cross-attention.

    pixels: (N, 3, H, W) in 0..1. prompts: one for each, with `{}` where the supercategory goes; by default "a
    photo of a {}". Each picture is noised to a few levels with seeded noise and shown to the denoiser with
    its prompt; the word's attention is averaged, smoothed, and stretched to 0..1. advance: told of each of
    `MASK_STEPS` looks. Returns (N, 1, h, w) fp32 on the CPU.
    """
    latents = encode_latents(base, pixels, torch.ones(len(pixels), 1, 1, 1), flip=False).mean
    texts = list(prompts) or [TARGET_PROMPT] * len(pixels)
    unique = list(dict.fromkeys(texts))
    tokenised = [base.tokenise(pieces(text, supercategory, spelled=True), whole=False) for text in unique]
    rows = [unique.index(text) for text in texts]
    shown, positions = base.encode(tokenised).rows(rows), [tokenised[row].concept_tokens[0] for row in rows]
    objective = base.objective
    generator = torch.Generator().manual_seed(0)
    size = (latents.shape[-2], latents.shape[-1])
    total = torch.zeros(())
    with torch.inference_mode(), base.exclusive():
        for level in NOISE_LEVELS:
            times = torch.full((len(latents),), objective.time(level), device=latents.device)
            for _ in range(NOISES_PER_LEVEL):
                noise = torch.randn(latents.shape[1:], generator=generator).to(latents)  # the same for all
                noisy = objective.add_noise(latents, noise.expand_as(latents), times)
                with base.recorder(positions, size) as recorder:
                    base.denoise(noisy, times, shown)
                total = total + recorder.maps().float().cpu()
                advance(1)
    maps = _smooth(total[:, None])
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-12)


def _smooth(maps: Tensor) -> Tensor:
    """A 3 x 3 binomial blur. maps: (N, 1, h, w)."""
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line)[None, None]
    return functional.conv2d(functional.pad(maps, (1, 1, 1, 1), mode="replicate"), kernel)


def _from_files(
    images: Sequence[LoadedImage], files: Sequence[Path | bytes | None], size: tuple[int, int]
) -> Tensor:
    masks = []
    for image, file in zip(images, files, strict=True):
        if file is None:
            what = "There is no mask for this image"
            hint = 'put name.mask.png beside it, list it under masks, or set mask = "auto"'
            raise PerfError(what, where=image.name, hint=hint)
        name = str(file) if isinstance(file, Path) else f"mask of {image.name}"
        mask = square(load_mask(file, image, name), size)
        if not bool(mask.any()):
            what = "The mask is black inside the middle square of the image, which is what is learned from"
            raise PerfError(what, where=name, hint="crop the image around the concept")
        masks.append(mask)
    return torch.stack(masks)


def _usable(masks: Tensor, images: Sequence[LoadedImage], reporter: Reporter) -> Tensor:
    """Replace masks that found nothing by plain ones, and say so. masks: (N, 1, h, w)."""
    peak = masks.amax((1, 2, 3))
    usable = torch.isfinite(peak) & (peak > 1e-3)
    for image, ok in zip(images, usable.tolist(), strict=True):
        if not ok:
            reporter.warn(f"{image.name}: the concept was not found in it, so all of it counts")
    return torch.where(usable[:, None, None, None], masks, torch.ones_like(masks))
