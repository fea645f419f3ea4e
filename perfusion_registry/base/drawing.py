"""What draws with a base: diffusers' pipelines and schedulers over its own components, and which sizes of
pictures they draw. Importing this needs no torch.
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from perfusion_registry.errors import PerfError
from perfusion_registry.plugins import load_object

if TYPE_CHECKING:
    import torch

    from perfusion_registry.base.conditioning import Conditioning
    from perfusion_registry.base.identity import BaseIdentity
    from perfusion_registry.base.offload_kinds import Offload


@dataclass(frozen=True, eq=False, kw_only=True)
class DrawingBase(ABC):
    """The part of a loaded base that pictures are drawn by.

    pipe: the diffusers pipeline with its components; only architectures look into it. device: where it
    draws. offload: what of it is on the device only while it computes; None where all of it is there.
    """

    pipe: Any
    description: BaseIdentity
    device: torch.device
    offload: Offload | None = None

    guided_together: ClassVar[bool] = True
    """Whether its pipelines ask the denoiser once for both branches of guidance, the unwanted one first; else
    one after the other, the wanted one first."""
    pipelines: ClassVar[Mapping[str, str]]
    """The classes that draw with the base, as `module:Class`: of `text`, `image` and `inpaint` those there
    are, and of these with controls (`control_kinds.pipeline_kind`)."""

    # Pipelines

    @abstractmethod
    def inputs(self, wanted: Conditioning, unwanted: Conditioning) -> dict[str, Any]:
        """What any pipeline of the base takes in the place of prompts and negative prompts, both packed: a
        tensor has a row for each, and whatever else a call has to be told is no tensor."""

    def plain_inputs(self, prompts: Sequence[str], unwanted: Sequence[str]) -> dict[str, Any]:
        """The same of prompts without concepts, for a pipeline to which nothing is attached. unwanted: all of
        them "" where no negative prompt is given."""
        return {"prompt": list(prompts), "negative_prompt": list(unwanted)}

    @property
    def draws(self) -> Collection[str]:
        """The kinds of `pipelines` that this very base can draw with: one that is made for inpainting draws
        into masks alone."""
        return self.pipelines.keys()

    def pipeline(self, kind: str = "text", *, scheduler: str | None = None, **beside: Any) -> Any:
        """A diffusers pipeline over the base's own components, which its caller may change at will.

        kind: one of `pipelines`. scheduler: one of `schedulers`, by name; None for one like the base's own.
        beside: components that the base itself does not have, such as a `controlnet`. Raises PerfError for a
        kind or a scheduler that the base does not have.
        """
        if kind not in self.pipelines:
            raise PerfError(
                f"this base has no pipeline for {kind!r}", hint=f"there are {', '.join(self.pipelines)}"
            )
        from perfusion_registry.base.pretrained import quiet

        with quiet():
            named = load_object(self.pipelines[kind])
            if type(self.pipe) is named and not beside:
                pipe = copy.copy(self.pipe)
            else:
                takes = inspect.signature(named.__init__).parameters
                given = {**self.pipe.config, **self.pipe.components, **beside}
                given |= dict.fromkeys(("requires_safety_checker", "add_watermarker"), False)
                pipe = named(**{name: part for name, part in given.items() if name in takes})
        pipe.scheduler = self.scheduler(scheduler)
        pipe.set_progress_bar_config(disable=True)
        if self.offload is not None:
            from perfusion_registry.base.offload_hooks import hook

            hook(pipe, self.device, self.offload)
        return pipe

    def rescale(self, kind: str) -> dict[str, float]:
        """What a pipeline of that kind takes where the base wants its guidance rescaled; nothing where it
        does not, or where diffusers' class for that kind cannot."""
        rescale = self.description.guidance_rescale
        takes = inspect.signature(load_object(self.pipelines[kind]).__call__).parameters if rescale else {}
        return {"guidance_rescale": rescale} if "guidance_rescale" in takes else {}

    @property
    def schedulers(self) -> Mapping[str, type]:
        """The schedulers that can take the base's own noise schedule, by their names in diffusers."""
        import diffusers

        from perfusion_registry.base.scheduler_names import COMPATIBLE, FEW_STEPS

        own = self.pipe.scheduler
        there = {type(own).__name__: type(own)} | {kind.__name__: kind for kind in own.compatibles}
        few = FEW_STEPS if type(own).__name__ in COMPATIBLE else ()
        return there | {name: getattr(diffusers, name) for name in few}

    def scheduler(self, name: str | None = None) -> Any:
        """A fresh scheduler over the base's own noise schedule.

        name: one of `schedulers`; None for the base's own kind. Raises PerfError for any other, and for one
        that needs a library which is not installed.
        """
        own, there = self.pipe.scheduler, self.schedulers
        name = name or type(own).__name__
        if name not in there:
            raise PerfError(
                f"the base's scheduler, {type(own).__name__}, has no form as {name}",
                hint=f"there are {', '.join(there)}",
            )
        try:
            return there[name].from_config(own.config)  # type: ignore[attr-defined]
        except ImportError as error:
            raise PerfError(
                f"{name} needs a library that is not installed",
                hint=str(error).strip().split("\n")[-1] or None,
            ) from error

    @property
    def noise_steps(self) -> int:
        """How many steps of noise the base was trained on, and so how many can be drawn at most."""
        return int(self.pipe.scheduler.config.num_train_timesteps)

    # Sizes

    @property
    @abstractmethod
    def pixels_per_latent(self) -> int:
        """How many pixels one latent stands for, along each side."""

    @property
    def pixels_per_step(self) -> int:
        """What the sides of its pictures are multiples of, in pixels: of a denoiser that reads its latents in
        patches, more than one latent."""
        return self.pixels_per_latent

    @property
    @abstractmethod
    def native_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the denoiser was made for."""

    @property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the pictures that the base draws by default: its card's, else those
        that its denoiser was made for; whole steps."""
        card, step = self.description.card.render, self.pixels_per_step
        height, width = card.get("height"), card.get("width")
        if not (height and width):
            native = self.native_size
            height, width = height or native[0], width or native[1]
        return int(height) // step * step, int(width) // step * step

    def drawn(
        self,
        pipe: Any,
        inputs: Mapping[str, Any],
        *,
        steps: int,
        guidance: float,
        generators: Sequence[torch.Generator],
        after_step: Callable[[], None],
    ) -> list[Any]:
        """The pictures of one call of one of its pipelines, as PIL has them.

        inputs: as `inputs` and `plain_inputs` give them, and a size or a picture. guidance: 1 is the wanted
        prompt alone. generators: of the noise of each picture. after_step: called after each step.
        """

        def count(*_: Any) -> dict[str, Any]:
            after_step()
            return {}

        told = "callback_on_step_end"
        if told not in inspect.signature(pipe.__call__).parameters:  # diffusers' older pipelines
            told = "callback"
        asked = {"num_inference_steps": steps, "guidance_scale": guidance, "generator": list(generators)}
        return list(pipe(**inputs, **asked, **{told: count}).images)
