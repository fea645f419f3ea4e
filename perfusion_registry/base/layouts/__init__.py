"""The layouts of one file that holds a whole base, as CompVis and Stability AI write them.

For each there is a folder here with the configurations that diffusers has for it, and one with CLIP's
vocabulary (MIT, see `clip/LICENSE`), so that such a file opens without a network. Importing this needs no
torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

UNET = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
START, END = "<|startoftext|>", "<|endoftext|>"
_SHIPPED = Path(str(resources.files("perfusion_registry"))) / "base" / "layouts"


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder in a file.

    component: as diffusers calls it. prefix: before the names of its tensors. open_clip: whether they are
    named and shaped as OpenCLIP has them, else as transformers has. padding: the token that its prompts are
    filled up with.
    """

    component: str
    prefix: str
    open_clip: bool = False
    padding: str = END

    @property
    def embeddings(self) -> str:
        """The name of its table of token embeddings."""
        return self.prefix + (
            "token_embedding.weight" if self.open_clip else "embeddings.token_embedding.weight"
        )

    @property
    def tokenizer(self) -> str:
        """The component that is its tokenizer."""
        return self.component.replace("text_encoder", "tokenizer")


@dataclass(frozen=True)
class Layout:
    """How a kind of base lies in one file.

    called: in words. folder: of its configurations, laid out as diffusers saves a base. encoders: its text
    encoders. vocabulary: the file of the merges of their tokenizers.
    """

    called: str
    folder: Path
    encoders: tuple[TextEncoder, ...]
    vocabulary: Path = _SHIPPED / "clip" / "merges.txt"

    @property
    def is_stable_diffusion_2(self) -> bool:
        """Whether its text encoder is OpenCLIP's alone."""
        return [encoder.open_clip for encoder in self.encoders] == [True]

    def encoder(self, component: str) -> TextEncoder:
        """The text encoder of that name."""
        return next(encoder for encoder in self.encoders if encoder.component == component)


LAYOUTS = (
    *(
        Layout("Stable Diffusion 1", _SHIPPED / "stable-diffusion-1", (TextEncoder("text_encoder", prefix),))
        for prefix in ("cond_stage_model.transformer.", "cond_stage_model.transformer.text_model.")
    ),
    Layout(
        "Stable Diffusion 2",
        _SHIPPED / "stable-diffusion-2",
        (TextEncoder("text_encoder", "cond_stage_model.model.", open_clip=True, padding="!"),),
    ),
    Layout(
        "SDXL",
        _SHIPPED / "sdxl",
        (
            TextEncoder("text_encoder", "conditioner.embedders.0.transformer.text_model."),
            TextEncoder("text_encoder_2", "conditioner.embedders.1.model.", open_clip=True, padding="!"),
        ),
    ),
)
"""Those that perf opens; of Stable Diffusion 1 as older tools merged it, too."""
