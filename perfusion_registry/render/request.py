"""A render request: everything that decides a picture, beside the composition and the base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from perfusion_registry.base.scheduler_names import known_elsewhere, random_elsewhere
from perfusion_registry.compose.caret import under
from perfusion_registry.compose.prompt import Prompt, parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.base_section import ControlName
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Sha256
from perfusion_registry.recipe.options import DrawingSteps, Guidance, SchedulerName, Side

RenderSeed = Annotated[int, Field(ge=0, lt=2**63)]

PAPER_STEPS = 50
PAPER_GUIDANCE = 6.0
CONTROL_STRENGTH = 1.0


class Start(FileModel):
    """The picture that another is drawn from. image, mask: digests of the files; the mask is white where it
    is drawn anew. strength: how much of the noise is added to it; at 1 nothing of it is left but what the
    mask keeps."""

    image: Sha256
    mask: Annotated[Sha256 | None, Field(exclude_if=lambda value: value is None)] = None
    strength: Annotated[float, Field(gt=0, le=1)]

    @property
    def kind(self) -> str:
        """The kind of pipeline that draws from it; see `Base.pipelines`."""
        return "image" if self.mask is None else "inpaint"


class Control(FileModel):
    """A picture that controls another. name: of the base's control that reads it. image: digest of the file.
    strength: what the control adds is multiplied by it, as diffusers' `controlnet_conditioning_scale`."""

    name: ControlName
    image: Sha256
    strength: Annotated[float, Field(gt=0, le=4)] = CONTROL_STRENGTH


class RenderRequest(FileModel):
    """How to draw a composition; the steps, guidance and scheduler of the paper's Section 5 are the defaults.

    scheduler: as diffusers calls it, or by its short name; the base decides which there are. seeds: one
    picture each. batch: how many are drawn at once. Each picture has its own generator, so its noise does not
    depend on the batch; kernels may still round differently for another batch size, by a level of colour, so
    a picture's record names the batch it was drawn in. upscale: whether the base's upscaler enlarges what was
    drawn at that width and height. start: the picture that it is drawn from, instead of noise alone.
    negative_format: 2 where the negative prompt means something else to a perf that knows no weights and no
    chunks; 1 is read as by that one. controls: the pictures that control it, by the base's own networks.
    """

    negative_prompt: Annotated[str, Field(max_length=20_000)] = ""
    negative_format: Annotated[Literal[1, 2], Field(exclude_if=lambda value: value == 1)] = 1
    seeds: Annotated[tuple[RenderSeed, ...], Field(min_length=1, max_length=10_000)] = (0,)
    steps: DrawingSteps = PAPER_STEPS
    guidance: Guidance = PAPER_GUIDANCE
    width: Side
    height: Side
    scheduler: SchedulerName = "ddim"
    batch: Annotated[int, Field(ge=1, le=256)] = 1
    upscale: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    start: Annotated[Start | None, Field(exclude_if=lambda value: value is None)] = None
    controls: Annotated[tuple[Control, ...], Field(max_length=16, exclude_if=lambda value: not value)] = ()

    @property
    def start_kind(self) -> str:
        """What it is drawn from: `text`, `image` or `inpaint`; see `Base.pipelines`."""
        return "text" if self.start is None else self.start.kind

    @property
    def steps_drawn(self) -> int:
        """How many of its steps are made: from a picture on, only those that its noise is worth."""
        return self.steps if self.start is None else int(self.steps * self.start.strength)

    @property
    def negative(self) -> Prompt:
        """The negative prompt, as its format reads it. Raises PerfError where it calls a concept."""
        return read_negative(self.negative_prompt, plain=self.negative_format == 1)


_OPTIONS = {
    "start": "--strength",
    "controls": "--control",
    "seeds": "--seed",
    "width": "--size",
    "height": "--size",
    "negative_prompt": "--negative",
}
_CARD_KEYS = ("steps", "guidance", "width", "height", "scheduler")


def resolve_request(
    given: Mapping[str, Any],
    card: Mapping[str, Any],
    *,
    native: Mapping[str, Any],
) -> RenderRequest:
    """Return the request with the values `given`, else those of the base's card, else the paper's.

    given: fields of `RenderRequest`; None means not given. card: `[render]` of the base's card. native: what
    the base itself was made for (`native_values`). Raises PerfError for a value out of range.
    """
    values: dict[str, Any] = {**native}
    values |= {key: card[key] for key in _CARD_KEYS if card.get(key) is not None}
    values |= {key: value for key, value in given.items() if value is not None}
    try:
        return RenderRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0]) if first["loc"] else "request"
        if key == "scheduler" and key in given:
            raise _no_scheduler(str(given[key])) from error
        raise PerfError(
            f"the picture's {key} {first['msg'].removeprefix('Input ').removeprefix('Value error, ')}",
            where=_OPTIONS.get(key, f"--{key}") if key in given else f"perf-base.toml, render.{key}",
            hint="see `perf render --help` for what it can be",
        ) from error


def _no_scheduler(name: str) -> PerfError:
    ours = known_elsewhere(name)
    known = "write ddim, dpmsolver, euler, or a name of diffusers, such as UniPCMultistepScheduler"
    hint = f"it is --scheduler {ours} here, over the base's own noise levels" if ours else known
    if random_elsewhere(name):
        hint = "this sampler is not here; DPMSolverSDEScheduler, too, adds fresh noise in every step"
    return PerfError(f"there is no scheduler `{name}`", where="--scheduler", hint=hint)


def read_negative(text: str, *, plain: bool = False) -> Prompt:
    """Parse a negative prompt; it cannot call a concept, and PerfError says so. plain: see `parse_prompt`."""
    prompt = parse_prompt(text, plain=plain)
    if prompt.calls:
        raise PerfError(
            "a negative prompt cannot call a concept",
            where=under(text, prompt.calls[0].span, label="negative prompt"),
            hint="write \\* for a plain star; [base.embeddings] of perfusion.toml gives an embedding to the "
            "base, as a word",
        )
    return prompt
