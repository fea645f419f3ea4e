"""Drawing a composition through the stock diffusers pipeline, with packed encodings for its prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Conditioning, Thin, beside
from perfusion_registry.base.scheduler_names import SHORT_NAMES
from perfusion_registry.base.upscaler import enlarge, find_upscaler
from perfusion_registry.compose.composing import described
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.contributing import anything_acts
from perfusion_registry.compose.encoding import spelled_out
from perfusion_registry.compose.focusing import residuals
from perfusion_registry.compose.packing import edited
from perfusion_registry.compose.prompt import Prompt, parse_prompt
from perfusion_registry.compose.tokenising import needs_encoding, said_as, tokenised
from perfusion_registry.errors import PerfError
from perfusion_registry.memory import enough_memory
from perfusion_registry.render.control import ControlImage, check_multiples, controls_of
from perfusion_registry.render.controlled import Controlled
from perfusion_registry.render.metadata import RenderRecord, record
from perfusion_registry.render.request import RenderRequest, read_negative
from perfusion_registry.render.start import StartImage, check_start
from perfusion_registry.reporter import Reporter, Silent, Stage

Packing = Callable[[Base, Composition, Mapping[str, Artifact], Sequence[Prompt]], Conditioning]
"""What edits B prompts, in either form: `edited`, or what it is compared with."""


@dataclass(frozen=True)
class Rendered:
    """One picture and the record from which it can be drawn again."""

    image: Image.Image
    record: RenderRecord

    @property
    def seed(self) -> int:
        """The seed of this picture's noise."""
        return self.record.seed


def render(
    base: Base,
    composition: Composition,
    request: RenderRequest,
    artifacts: Mapping[str, Artifact],
    *,
    start: StartImage | None = None,
    controls: Sequence[ControlImage] = (),
    packing: Packing = edited,
    reporter: Reporter | None = None,
) -> Iterator[Rendered]:
    """Draw a composition once per seed, and yield each picture as soon as it is done.

    artifacts: by concept name. start, controls: what the request names. packing: another method than Eq. 4.
    Both branches of guidance go through the edit; personalised residuals apply in the wanted one, where their
    concepts are. Bank and residuals are attached only while a batch is drawn, so the pipeline is as it was
    before whenever this function is not running. Prompts without weights, in one chunk, and without concepts
    or with none that brings anything, go through the untouched pipeline.

    Raises PerfError when the composition was made for another family, when a size or a number of steps is
    impossible for the base, and when the device runs out of memory.
    """
    check_request(base, composition, request)
    prompt, negative = composition.parsed, request.negative
    controlled = Controlled.of(base, request, controls, reporter or Silent())
    conditions: dict[str, Any] | None = None
    thin: Thin | None = None
    extra = residuals(base, composition, artifacts)
    if extra.first is not None and request.steps_drawn < 2:
        raise PerfError(
            f"{extra.first.names[0]!r} is drawn where it is found, which takes two steps or more",
            hint="take more --steps, or have it drawn everywhere: {reach=everywhere}",
        )
    acts = anything_acts(base, composition, artifacts)
    words = {concept.name: said_as(concept) for concept in composition.concepts}
    if acts or needs_encoding(base, (prompt, negative), words):
        packed = packing(base, composition, artifacts, [prompt, negative])
        thin = packed.thin
        wanted, unwanted = extra.marked(packed, [prompt, negative])
        if base.readers or controlled.readers:
            length = wanted.states.shape[1]
            spelled = spelled_out(base, composition, [prompt, negative], least=length)
            wanted, unwanted = beside(wanted, spelled.rows([0])), beside(unwanted, spelled.rows([1]))
        unwanted = unwanted if request.negative_prompt else base.without_negative(unwanted)
        conditions = base.inputs(wanted, unwanted)
    text, unwanted_text = prompt.spoken(composition.words), negative.spoken({})
    said = prompt.spoken({c.name: c.said for c in composition.concepts})

    parts = batches(request)
    title = "Drawing" if len(request.seeds) == 1 else f"Drawing {len(request.seeds)} pictures"
    with (reporter or Silent()).stage(title, total=len(parts) * request.steps_drawn) as stage:
        for drawn in parts:
            seeds = drawn.seeds
            inputs: dict[str, Any]
            if conditions is None:
                inputs = base.plain_inputs([said] * len(seeds), [unwanted_text] * len(seeds))
            else:
                inputs = {
                    key: value.repeat(len(seeds), *[1] * (value.ndim - 1))
                    if isinstance(value, Tensor)
                    else value
                    for key, value in conditions.items()
                }
            readers, within = controlled.readers, controlled.within()
            with (
                base.exclusive(readers, within)
                if conditions is None
                else extra.attached(base, readers, within, thin)
            ):
                images = _draw(base, request, start, controlled, seeds, inputs, stage)
            if request.upscale:
                enlarger, steps = find_upscaler(base.description), request.steps
                images = enlarge(base, enlarger, images, text, unwanted_text, steps=steps, seeds=seeds)
            for index, image in enumerate(images):
                yield Rendered(image, record(base, composition, drawn, index))


def planned(base: Base, composition: Composition, request: RenderRequest) -> list[RenderRecord]:
    """Return the records of the pictures that `render` would yield, in its order, without drawing them."""
    return [
        record(base, composition, drawn, index)
        for drawn in batches(request)
        for index in range(len(drawn.seeds))
    ]


def native_values(base: Base) -> dict[str, Any]:
    """The values of a `RenderRequest` that the base decides when nobody says: the width and height in pixels
    that it draws by default, and the paper's scheduler where the base has it, else its own."""
    height, width = base.picture_size
    there = base.schedulers
    scheduler = "ddim" if SHORT_NAMES["ddim"] in there else next(iter(there))
    return {"width": width, "height": height, "scheduler": scheduler}


def negative_format(base: Base, text: str) -> Literal[1, 2]:
    """The lowest format of a request that reads a negative prompt as it is meant."""
    prompt = read_negative(text)
    as_before = prompt == parse_prompt(text, plain=True) and tokenised(base, prompt, {}).chunks == 1
    return 1 if as_before else 2


def batches(request: RenderRequest) -> list[RenderRequest]:
    """Cut a request into one request per batch, as the records of its pictures have it."""
    starts = range(0, len(request.seeds), request.batch)
    parts = [request.seeds[start : start + request.batch] for start in starts]
    return [request.model_copy(update={"seeds": seeds, "batch": len(seeds)}) for seeds in parts]


def _draw(
    base: Base,
    request: RenderRequest,
    start: StartImage | None,
    controlled: Controlled,
    seeds: tuple[int, ...],
    inputs: dict[str, Any],
    stage: Stage,
) -> list[Image.Image]:
    """Run the pipeline once for the pictures of `seeds`."""
    scheduler, width, height = request.scheduler, request.width, request.height
    kind = controlled.kind
    pipe = base.pipeline(kind, scheduler=SHORT_NAMES.get(scheduler, scheduler), **controlled.components)
    size = {"width": width, "height": height}
    shown = size if start is None else start.inputs(width, height, len(seeds))
    shown |= controlled.inputs(request, len(seeds))
    what = f"the device {base.device} has not enough memory for {request.width}x{request.height}"
    with base.autocast(), enough_memory(what, "try a smaller --size, --batch 1, or --device cpu"):
        images: list[Image.Image] = base.drawn(
            pipe,
            {**inputs, **shown, **base.rescale(kind)},
            steps=request.steps,
            guidance=request.guidance,
            generators=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            after_step=lambda: stage.advance(note=f"seed {', '.join(map(str, seeds[:4]))}"),
        )
    return images


def _check_steps(base: Base, scheduler: str, steps: int) -> None:
    """Raise PerfError for a number of steps that is impossible for the base, or for a scheduler over its
    chain of noise levels, some of which would begin one level beyond it."""
    longest, made = base.noise_steps, base.scheduler(scheduler)
    beyond = steps > longest
    if not beyond and not made.timesteps.is_floating_point():
        try:
            made.set_timesteps(steps)
        except ValueError as error:
            raise PerfError(f"{scheduler} cannot draw {steps} steps: {error}", where="--steps") from error
        beyond = int(max(made.timesteps)) >= longest
    if beyond:
        raise PerfError(
            f"the base knows {longest} steps of noise, so {steps} cannot be drawn",
            where="--steps",
            hint="20 to 50 are usual",
        )


def check_request(base: Base, composition: Composition, request: RenderRequest) -> None:
    """Raise PerfError for a composition of another family, and for a size or a number of steps that is
    impossible for the base, or a start or controls that it cannot draw from."""
    check_start(base.description.repo, base.draws, request.start, request.steps)
    parts = controls_of(base.description, request.controls, request.start_kind)
    made_for, here = composition.base, described(base)
    if composition.concepts and made_for.family != here.family:
        raise PerfError(
            f"the composition was made for {made_for.repo} (family {made_for.family[:12]}), and this base, "
            f"{here.repo}, is of another family ({here.family[:12]})",
            hint="write it anew with `perf compose`",
        )
    factor = base.pixels_per_step
    for key, side in (("width", request.width), ("height", request.height)):
        if side % factor:
            raise PerfError(
                f"the {key} {side} is not a multiple of {factor}, the pixels that one "
                f"{'latent stands' if factor == base.pixels_per_latent else 'patch of latents stands'} for",
                where="--size",
                hint=f"the nearest is {max(factor, round(side / factor) * factor)}",
            )
    check_multiples(parts, request.width, request.height)
    _check_steps(base, SHORT_NAMES.get(request.scheduler, request.scheduler), request.steps)
