"""Anima: diffusers' Cosmos transformer behind a text conditioner, which reads T5's tokens and what Qwen says.

A prompt is tokens of two kinds. The conditioner has a table of T5's tokens, and each of them looks at the
states that a Qwen3 makes of Qwen's own tokens; so a concept has a token embedding in each table, and the
positions of what K and V read (E, C, i*) are T5's. There are always 512, those behind the prompt zeros, to
which the layers do attend: no edit changes them, or a gate that is never quite closed would add up over
hundreds of them. The transformer answers the velocity of a straight path from picture to noise.

It draws by diffusers' modular pipeline. Bases are recognised and described without torch, so what needs it is
imported where it is used.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.architectures import transformer
from perfusion_registry.base.architectures.text_encoders import fp32_text_encoder, live_text_encoder
from perfusion_registry.base.architectures.tokenizers import load_fast_tokenizer, require_tokenizer
from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.family import family_digest, model_digest
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.interface import Base
from perfusion_registry.base.kinds import SUITABLE
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    import torch

    from perfusion_registry.base.scorer import Scorer

LENGTH = 512
"""Positions of a prompt."""
TOKENIZERS = {"t5_tokenizer": "T5TokenizerFast", "tokenizer": "Qwen2TokenizerFast"}
_CLASSES = {
    "transformer": "CosmosTransformer3DModel",
    "text_conditioner": "AnimaTextConditioner",
    "text_encoder": "Qwen3Model",
    "vae": "AutoencoderKLQwenImage",
}
_READERS = ("text_conditioner", "text_encoder")


class Anima:
    """The architecture; see `base.architecture.Architecture`."""

    name = "anima"
    models = (*_READERS, "transformer", "vae")
    text = (*_READERS, *TOKENIZERS)

    def recognise(self, files: BaseFiles) -> bool:
        """By the classes of its components."""
        return {component: files.classes.get(component) for component in _CLASSES} == _CLASSES

    def family(self, files: BaseFiles) -> str:
        """Of Qwen, of the conditioner, and of the shapes of the transformer's layers that read text."""
        told = {model: files.configuration(model) for model in self.models}
        denoiser, conditioner = told["transformer"], told["text_conditioner"]
        where = files.place("transformer")
        pairs = {
            "numbers of each token": (denoiser.get("text_embed_dim"), conditioner.get("target_dim")),
            "numbers of what Qwen says": (
                conditioner.get("source_dim"),
                told["text_encoder"].get("hidden_size"),
            ),
            "channels of a latent": (denoiser.get("in_channels"), told["vae"].get("z_dim")),
        }
        for what, (taken, given) in pairs.items():
            if taken != given:
                raise PerfError(
                    f"the base's parts do not fit together: {taken} {what} are read, and there are {given}",
                    where=where,
                    hint="fetch the base again, or check which parts it was saved with",
                )
        for key in ("use_crossattn_projection", "img_context_dim_in", "controlnet_block_every_n"):
            if denoiser.get(key):
                raise PerfError(
                    f"the base's transformer takes what Anima's does not ({key}), and perf cannot give it",
                    where=where,
                    hint=SUITABLE,
                )
        if conditioner.get("min_sequence_length", LENGTH) != LENGTH:
            raise PerfError(
                f"the base's prompts have {conditioner['min_sequence_length']} positions, Anima's {LENGTH}",
                where=files.place("text_conditioner"),
                hint=SUITABLE,
            )
        layers = transformer.layers_in_files(files)
        return family_digest([told[model] for model in _READERS], self.text_weights(files), layers)

    def text_weights(self, files: BaseFiles) -> list[str]:
        """Of the conditioner and of Qwen."""
        return [model_digest(files.tensor_files(model)) for model in _READERS]

    def require_trainable(self, files: BaseFiles, card: BaseCard) -> None:
        """A schedule of flow matching, both tokenizers, and what diffusers needs for the transformer."""
        named = str(files.scheduler.get("_class_name", ""))
        if named != "FlowMatchEulerDiscreteScheduler":
            raise PerfError(
                "no concept can be trained on this base: Anima is trained by flow matching, and its "
                f"scheduler is a {named}",
                where=files.place("scheduler"),
            )
        for component in TOKENIZERS:
            require_tokenizer(files.folder / component)
        _require_torchvision(files)

    def tokenizer(self, description: BaseDescription) -> Any:
        """T5's, alone."""
        return load_fast_tokenizer("T5TokenizerFast", description.folder / "t5_tokenizer")

    def load(
        self,
        description: BaseDescription,
        device: torch.device,
        dtype: torch.dtype,
        compute_dtype: torch.dtype,
        scorer: Scorer | None,
    ) -> Base:
        """Its modular pipeline, and beside it the conditioner and Qwen in fp32."""
        from perfusion_registry.base.architectures.anima_base import AnimaBase, assembled
        from perfusion_registry.base.pretrained import load_model, move, require_all_weights

        _require_torchvision(BaseFiles(description.folder))
        tokenizers = {
            component: load_fast_tokenizer(kind, description.folder / component)
            for component, kind in TOKENIZERS.items()
        }
        models = {model: load_model(description, model, _CLASSES[model], dtype) for model in self.models}
        readers = [fp32_text_encoder(models[model], description, model, shared=True) for model in _READERS]
        for model, name in zip((*readers, models["transformer"]), (*_READERS, "transformer"), strict=True):
            require_all_weights(model, description.folder / name, description.variants.get(name))
        move((*models.values(), *readers), device)
        base = AnimaBase(
            pipe=assembled({**models, **tokenizers}, description.folder / "scheduler"),
            text_conditioner=readers[0],
            text_encoder=readers[1],
            device=device,
            dtype=dtype,
            compute_dtype=compute_dtype,
            description=description,
            scorer=scorer,
        )
        _ = base.bank  # a transformer that cannot be worked with is told now
        return base

    def wrap(self, pipe: Any, description: BaseDescription | None) -> Base | None:
        """A modular pipeline with Anima's parts, all of them loaded."""
        parts = {name: type(part).__name__ for name, part in pipe.components.items() if part is not None}
        if {name: parts.get(name) for name in _CLASSES} != _CLASSES:
            return None
        from perfusion_registry.base.architectures.anima_base import AnimaBase
        from perfusion_registry.base.architectures.cross_attention import cross_attention_shapes
        from perfusion_registry.base.exclusive import exclusive
        from perfusion_registry.base.live import live_identity
        from perfusion_registry.base.offloading import execution_device

        denoiser, own = pipe.transformer, [getattr(pipe, model) for model in _READERS]
        with exclusive(denoiser):  # another thread may have a composition attached
            layers = cross_attention_shapes(denoiser.state_dict())
            identity = description or live_identity(
                pipe, self.name, own, layers, [(model, "") for model in own]
            )
            conditioner, encoder = (
                live_text_encoder(model, denoiser, description, name)
                for model, name in zip(own, _READERS, strict=True)
            )
            base = AnimaBase(
                pipe=pipe,
                text_conditioner=conditioner,
                text_encoder=encoder,
                device=execution_device(pipe, denoiser),
                dtype=denoiser.dtype,
                compute_dtype=denoiser.dtype,
                description=identity,
            )
            _ = base.bank  # what cannot be worked with is told now
        return base


ARCHITECTURE = Anima()


def _require_torchvision(files: BaseFiles) -> None:
    """diffusers resizes by it a mask of the picture's edges, a channel of the transformer's input."""
    if files.configuration("transformer").get("concat_padding_mask", True) and not find_spec("torchvision"):
        raise PerfError(
            "diffusers needs torchvision to run Anima's transformer, and it is not installed",
            hint="pip install torchvision, of the version that goes with your torch",
        )
