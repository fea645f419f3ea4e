"""How far an export is from the concept that it was: by what K and V emit, and by pictures.

The export is drawn as every other program draws it: its adapters in the denoiser's weights, its token among
the words, everywhere and in both branches of guidance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from perfusion_registry import amounts
from perfusion_registry.adapters.adapter import COMPONENTS, DENOISER, Adapter, WordVectors
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base
from perfusion_registry.base.changed import pipeline_with, weights_changed
from perfusion_registry.base.scheduler_names import SHORT_NAMES
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.render.draw import render
from perfusion_registry.render.request import RenderRequest
from perfusion_registry.reporter import Reporter, Stage


@dataclass(frozen=True)
class Departure:
    """How far an export is from its concept in the same prompt and seeds.

    encodings: the length of the difference of all that K and V emit for the prompt's tokens, as a part of the
    original's; None where the export leaves K and V alone. pictures: the mean difference of their pixels, in
    levels of 255; plain: that of pictures of the supercategory's word from the original's, for comparison.
    """

    encodings: float | None
    pictures: float
    plain: float


@torch.no_grad()
def departure(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    request: RenderRequest,
    adapters: Sequence[Adapter],
    words: WordVectors | None,
    called: str,
    reporter: Reporter,
) -> Departure:
    """Draw a composition that calls one concept, its export, and the plain word, and compare.

    words: the token that the export brings; None where its prompt says words of the base. called: what the
    export's prompt has in the place of a call.
    """
    (concept,) = composition.concepts
    prompt = parse_prompt(composition.prompt)
    plain = prompt.spoken({concept.name: concept.plain})
    said = prompt.spoken({concept.name: called})
    count = len(request.seeds)
    every = amounts.count(3 * count, "picture")
    reporter.note(
        f"{every} are drawn to say how near the export is: {count} of the concept, of it, and of the plain "
        f"{concept.plain}"
    )
    original = [one.image for one in render(base, composition, request, artifacts, reporter=reporter)]
    pipe = pipeline_with(base, words, SHORT_NAMES.get(request.scheduler, request.scheduler))
    emitted = None
    title = f"Drawing {amounts.count(2 * count, 'picture')} to compare"
    models: dict[str, torch.nn.Module] = {DENOISER: base.denoiser}
    models |= {name: part for name, part in pipe.components.items() if name in COMPONENTS}
    with reporter.stage(title, 2 * count * request.steps) as stage, base.exclusive():
        with weights_changed(models, adapters):
            if words is not None:
                encoded = pipe.encode_prompt(
                    prompt=said,
                    device=base.device,
                    num_images_per_prompt=1,
                    do_classifier_free_guidance=False,
                )
                emitted = base.bank.emitted(encoded[0][0])
            exported = _drawn(base, pipe, request, said, stage)
        unedited = base.pipeline(scheduler=pipe.scheduler.__class__.__name__)
        spoken = _drawn(base, unedited, request, plain, stage)
    gap = None
    if emitted is not None:
        own = pack(base, composition, artifacts).states[0].float()
        rows = min(len(own), len(emitted))
        gap = float((emitted[:rows].to(own) - own[:rows]).norm() / own[:rows].norm())
    return Departure(gap, _levels(exported, original), _levels(spoken, original))


def _drawn(base: Base, pipe: Any, request: RenderRequest, prompt: str, stage: Stage) -> list[Image.Image]:
    """Pictures of a prompt as a pipeline itself encodes it."""
    said = {"prompt": prompt, "width": request.width, "height": request.height, **base.rescale("text")}
    images: list[Image.Image] = []
    for seed in request.seeds:
        with base.autocast():
            images += base.drawn(
                pipe,
                said,
                steps=request.steps,
                guidance=request.guidance,
                generators=[torch.Generator("cpu").manual_seed(seed)],
                after_step=stage.advance,
            )
    return images


def _levels(some: Sequence[Image.Image], others: Sequence[Image.Image]) -> float:
    """The mean difference of pixels, in levels of 255."""
    pairs = zip(some, others, strict=True)
    return float(np.mean([np.abs(np.asarray(a, "f4") - np.asarray(b, "f4")).mean() for a, b in pairs]))
