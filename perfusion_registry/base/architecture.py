"""What perf asks of a kind of base: to know one, to load one, to take one that somebody has loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.identity import BaseDescription

if TYPE_CHECKING:
    import torch

    from perfusion_registry.base.interface import Base
    from perfusion_registry.base.scorer import Scorer


@runtime_checkable
class Architecture(Protocol):
    """A kind of base, such as Stable Diffusion. Its module imports torch only inside of functions, since
    bases are recognised and described without it.

    name: in lower case, with dashes. models: the components with weights, each a folder of the base. text:
    the components that decide what a prompt is encoded to: text encoders and tokenizers.

    It may also have `text_weights(files)`, digests in half precision of all that text passes through on its
    way to K and V, where that is more than text encoders each in one file.

    It may also have `options`, a set of what its `load` applies of `description.options`: "clip_skip",
    "vae", "unet", "lora", "embeddings" (`base.architectures.altered` has the means), "controls" (those of a
    UNet); of its bases the rest is refused. With "clip_skip" goes `layers_left_out(files, clip_skip)`, the
    number of layers that are left out of the end of each text encoder, by component; it raises ValueError,
    with a sentence, for one that there is not. And it may have `draws(files)`, where not all of its bases
    draw from noise, from pictures and into masks: what this one draws from, as `Base.draws` says it.
    """

    name: str
    models: tuple[str, ...]
    text: tuple[str, ...]

    def recognise(self, files: BaseFiles) -> bool:
        """Whether a base is of this kind, by the classes of its components or by its tensors.

        Of a hub model not all files may be here yet: only JSON files can be counted on.
        """
        ...

    def family(self, files: BaseFiles) -> str:
        """The hex sha256 that bases have in common if concepts of one can be drawn with the other.

        Raises PerfError where the base cannot carry concepts after all.
        """
        ...

    def require_trainable(self, files: BaseFiles, card: BaseCard) -> None:
        """Raise PerfError where no concept can be trained on a base of this kind, although one may be drawn:
        for its noise schedule, or since nobody says how large it draws. Asked before any long work, with a
        covariance's first captions and when a project is examined. card: the base's."""
        ...

    def tokenizer(self, description: BaseDescription) -> Any:
        """Its (first) tokenizer, alone. Raises PerfError when it is missing or broken."""
        ...

    def load(
        self,
        description: BaseDescription,
        device: torch.device,
        dtype: torch.dtype,
        compute_dtype: torch.dtype,
        scorer: Scorer | None,
    ) -> Base:
        """Load a described base; the arguments are what `Base` has of them.

        Only safetensors are read, and nothing is downloaded. Raises PerfError when files are missing or
        broken, and when the base cannot be worked with after all.
        """
        ...

    def wrap(self, pipe: Any, description: BaseDescription | None) -> Base | None:
        """The base that a live diffusers pipeline is; None where it is of another kind.

        description: the base that it was loaded from, where that is known; else its family is that of its
        text encoder as it is. Nothing of the pipeline is changed. Raises PerfError for a pipeline of this
        kind that cannot carry concepts.
        """
        ...
