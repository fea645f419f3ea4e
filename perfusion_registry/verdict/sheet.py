"""The sheet of a verdict: a concept's own pictures, and a plain prompt and two places, drawn."""

from __future__ import annotations

import io

from PIL import Image
from torch import Tensor

from perfusion_registry.render.sheet import Reference, Tile, contact_sheet
from perfusion_registry.verdict.measuring import Attempted, places_of
from perfusion_registry.verdict.subject import Trained

SHOWN = 3
"""Prompts on the sheet: a plain one, and two places."""


def verdict_sheet(trained: Trained, own: Tensor, best: Attempted, plain: Tensor, said: str) -> Image.Image:
    """Its own pictures on the left; what its word draws, and the plain word below it, on the right.

    It calls the concept by its supercategory with a star, and not by its name, since others with the same
    tensors take the sheet over.

    own: (N, 3, H, W). plain: (P, S, 3, H, W), in 0..1. said: the verdict in words.
    """
    templates = places_of(trained.train.validation_prompts)[:SHOWN]
    tiles = []
    learned = f"{trained.word}*"
    for word, rows in ((learned, best.pictures), (trained.word, plain)):
        for template, row in zip(templates, rows, strict=False):
            tiles.append(Tile(_picture(row[0]), template.replace("{}", word)))
    reference = Reference(learned, "learned from these", [_picture(one) for one in own])
    title = f"What was learned, here {learned}, beside the plain word {trained.word}"
    return contact_sheet(title, [reference], tiles, note=said)


def sheet_bytes(sheet: Image.Image) -> bytes:
    """The sheet as a JPEG."""
    written = io.BytesIO()
    sheet.save(written, "JPEG", quality=85, optimize=True)
    return written.getvalue()


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
