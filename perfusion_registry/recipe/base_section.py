"""`[base]` of the manifest: what a project says of its base beside its name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import DrawingSteps, Guidance, SchedulerName, Side

DEFAULTS = ("steps", "guidance", "scheduler", "width", "height")
"""What `[base]` says of pictures where neither a command nor a prompt does."""

Strength = Annotated[float, Field(ge=-8, le=8, description="Of its change of the weights, how much.")]
Place = Annotated[str, Field(min_length=1, max_length=1000)]


def _lower(word: str) -> str:
    if word != word.lower():
        raise ValueError(f"write `{word.lower()}`: prompts are read in lower case")
    return word


Word = Annotated[
    str,
    Field(max_length=64, pattern=r"^(?:[A-Za-z][A-Za-z0-9_-]*|<[A-Za-z0-9_-]+>)$"),
    AfterValidator(_lower),
]


ControlName = Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")]


class LoraEntry(FileModel):
    """One of `[[base.lora]]`: a LoRA that is fused into the base."""

    file: Annotated[Place, Field(description="A safetensors file, relative to the project.")]
    strength: Strength = 1.0
    train: Annotated[
        bool,
        Field(description="Whether concepts are learned with it too; false for a LoRA that saves steps."),
    ] = True


class BaseSection(FileModel):
    """`[base]`: what a base does not say of itself, and what is put into it or in the place of its parts."""

    prediction: Annotated[
        Literal["epsilon", "v_prediction"] | None,
        Field(
            description="Of a base in one file, what it predicts; default: as the file says, else epsilon."
        ),
    ] = None
    zero_terminal_snr: Annotated[
        bool | None,
        Field(
            description="Of a base in one file, whether its noise schedule ends in noise alone; "
            "default: as the file says."
        ),
    ] = None
    clip_skip: Annotated[
        int | None,
        Field(
            ge=1,
            le=12,
            description="Which layer of the text encoder is read, from its end: 1 is the last.",
        ),
    ] = None
    vae: Annotated[
        Place | None, Field(description="Another autoencoder: a file, a folder, or a name of the Hub.")
    ] = None
    unet: Annotated[
        Place | None,
        Field(description="Another UNet of the same layers: a safetensors or a GGUF file."),
    ] = None
    scorer: Annotated[
        Place | None,
        Field(description="The CLIP model that scores pictures: a folder, or a name of the Hub."),
    ] = None
    segmenter: Annotated[
        Place | None,
        Field(description="The CLIPSeg model that finds masks: a folder, or a name of the Hub."),
    ] = None
    lora: Annotated[tuple[LoraEntry, ...], Field(max_length=32)] = ()
    embeddings: Annotated[
        dict[Word, Place],
        Field(description="Textual-inversion files, by the words that stand for them in prompts."),
    ] = Field(default_factory=dict)
    controls: Annotated[
        dict[ControlName, Place],
        Field(
            description="Networks that a picture controls, such as a ControlNet of edges, by the names that "
            "`perf render --control NAME=IMAGE` calls them: a file, a folder, or a name of the Hub."
        ),
    ] = Field(default_factory=dict)
    steps: Annotated[DrawingSteps | None, Field(description="Denoising steps of a picture.")] = None
    guidance: Annotated[Guidance | None, Field(description="Classifier-free guidance scale.")] = None
    scheduler: Annotated[
        SchedulerName | None, Field(description="By its name in diffusers, or `ddim`, `dpmsolver`, `euler`.")
    ] = None
    width: Annotated[Side | None, Field(description="Of pictures, in pixels.")] = None
    height: Annotated[Side | None, Field(description="Of pictures, in pixels.")] = None

    @property
    def without_prediction(self) -> BaseSection:
        """All but what a base in one file predicts, which lockfiles have a field of its own for."""
        return self.model_copy(update={"prediction": None, "zero_terminal_snr": None})

    @property
    def defaults(self) -> dict[str, int | float | str]:
        """What it says of pictures, by key."""
        said = {key: getattr(self, key) for key in DEFAULTS}
        return {key: value for key, value in said.items() if value is not None}

    @property
    def said(self) -> list[str]:
        """The keys that say anything."""
        plain = BaseSection()
        return [key for key in type(self).model_fields if getattr(self, key) != getattr(plain, key)]
