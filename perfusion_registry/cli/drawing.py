"""The options of the commands that take a prompt, and the reading of what they say: its mistakes are reported
before torch is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli.completion import scene_names
from perfusion_registry.cli.help import argument, flag, gate_option, option, picture_option
from perfusion_registry.cli.options import Compute, LockfileUse

if TYPE_CHECKING:
    from perfusion_registry.compose.checking import SettingSources
    from perfusion_registry.operations.compose import Prompting, PromptOptions
    from perfusion_registry.operations.job import RenderOverrides

PromptArgument = Annotated[
    str | None, argument("PROMPT", "A prompt; a star calls a concept: 'a teddy* in the snow'.")
]
SceneOption = Annotated[
    str | None,
    option(
        "NAME",
        "A scene of perfusion.toml, or PACK/SCENE of a pack: its gates, and its prompt unless one is given.",
        completion=scene_names,
    ),
]
LockOption = Annotated[
    list[str] | None,
    gate_option("[NAME=]LOCK", "Key lock of all concepts, or of one: local, global or none. Repeatable."),
]
ResidualOption = Annotated[
    list[str] | None, gate_option("[NAME=]R", "Strength of all residuals, or of one. Repeatable.")
]
WithOption = Annotated[
    list[Path] | None,
    option(
        "FILE",
        "Take the concept of this artifact instead of the locked one of its name. Repeatable.",
        "--with",
    ),
]
ForOption = Annotated[
    str | None,
    option(
        "BASE",
        "For this base: concepts that were learned on one of another family are transferred to it.",
        "--for",
        default="the project's",
    ),
]
CovarianceOption = Annotated[
    Path | None, option("FILE", "With --for: the covariance of that base.", default="the base's own")
]


@dataclass(frozen=True)
class PromptArguments:
    """What the command line says of a prompt."""

    prompt: PromptArgument = None
    scene: SceneOption = None
    files: WithOption = None
    for_base: ForOption = None
    covariance: CovarianceOption = None

    def read(
        self, lockfile: LockfileUse, compute: Compute | None = None, gates: GateOptions | None = None
    ) -> PromptOptions:
        """What is said, for an operation."""
        from perfusion_registry.operations.compose import PromptOptions

        return PromptOptions(prompt=self.prompt, **vars(self.read_how(lockfile, compute, gates)))

    def read_how(
        self, lockfile: LockfileUse, compute: Compute | None = None, gates: GateOptions | None = None
    ) -> Prompting:
        """What is said beside the prompt, for an operation."""
        from perfusion_registry.operations.compose import Prompting

        return Prompting(
            scene=self.scene,
            gates=(gates or GateOptions()).read(),
            files=tuple(self.files or ()),
            base=self.for_base,
            covariance=self.covariance,
            locked=lockfile.locked,
            frozen=lockfile.frozen,
            compute=(compute or Compute()).read(),
        )


OpenOption = Annotated[bool, flag("Show the result when it is done.", "--open")]


@dataclass(frozen=True)
class GateOptions:
    """What the command line says of gates, each option `VALUE` or `NAME=VALUE`."""

    bias: Annotated[
        list[str] | None,
        gate_option("[NAME=]B", "Bias of all gates, or of one; lower is more of the concept. Repeatable."),
    ] = None
    temperature: Annotated[
        list[str] | None,
        gate_option("[NAME=]T", "Temperature of all gates, or of one; lower is sharper. Repeatable."),
    ] = None
    lock: LockOption = None
    residual: ResidualOption = None
    preset: Annotated[
        list[str] | None,
        gate_option(
            "[NAME=]P",
            "Bias and temperature by name, where no option sets them: faithful, balanced, editable or "
            "together. Repeatable.",
        ),
    ] = None
    relative_bias: Annotated[
        list[str] | None,
        gate_option(
            "[NAME=]R",
            "Instead of a bias: a share of the similarity of the concept's own word; 1 opens its gate "
            "by half there. Repeatable.",
            "--relative-bias",
        ),
    ] = None
    lag: Annotated[list[str] | None, gate_option("[NAME=]M", "Residuals' masks: ramp, median or off.")] = None

    def read(self) -> SettingSources:
        """What is set by concept name, and of all."""
        from perfusion_registry.compose.checking import SettingSources
        from perfusion_registry.methods.table import shipped_settings

        settings = shipped_settings()
        return SettingSources.read({settings[option]: texts or () for option, texts in vars(self).items()})


@dataclass(frozen=True)
class PictureOptions:
    """What the command line says of a picture."""

    seed: Annotated[
        str | None, picture_option("N", "The first seed; or several: 1,5,9, 0-5, random.", default="0")
    ] = None
    steps: Annotated[int | None, picture_option("N", "Denoising steps.", default="the base's, else 50")] = (
        None
    )
    guidance: Annotated[
        float | None,
        picture_option("G", "Classifier-free guidance scale.", default="the base's, else 6"),
    ] = None
    negative: Annotated[str | None, picture_option("TEXT", "What the picture should not show.")] = None
    size: Annotated[
        str | None,
        picture_option(
            "WxH",
            "The picture's size in pixels; far from the base's own, expect things twice or in parts.",
            default="the base's: 512x512 of SD 1.x, 1024x1024 of SDXL",
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        picture_option(
            "NAME",
            "ddim, dpmsolver, euler, or one of the base's by its diffusers name.",
            default="the base's, else ddim",
        ),
    ] = None

    def read(
        self, count: int | None = None, batch: int | None = None, usual: int | None = None
    ) -> RenderOverrides:
        """What is said, with the seeds as `read_seeds` has them."""
        from perfusion_registry.operations.job import RenderOverrides
        from perfusion_registry.operations.quantities import pixels
        from perfusion_registry.render.seeds import read_seeds

        width, height = pixels(self.size) if self.size is not None else (None, None)
        return RenderOverrides(
            seeds=read_seeds(self.seed, count, usual),
            steps=self.steps,
            guidance=self.guidance,
            negative_prompt=self.negative,
            width=width,
            height=height,
            scheduler=self.scheduler,
            batch=batch,
        )
