"""A base as other programs change it: adapters added to the weights of its denoiser for as long as a context
lasts, and words in copies of its tokenizers and text encoders."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from perfusion_registry.adapters.adapter import Adapter, WordVectors
from perfusion_registry.adapters.difference import difference
from perfusion_registry.base.changes import module_at
from perfusion_registry.base.offloading import without_hooks
from perfusion_registry.base.pretrained import quiet
from perfusion_registry.base.quantised import is_gguf
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.base.interface import Base


@contextmanager
def weights_changed(models: Mapping[str, nn.Module], adapters: Iterable[Adapter]) -> Iterator[None]:
    """A context in which adapters are added to the weights of models, at strength 1, as every other program
    does. Afterwards the weights are what they were, bit for bit. Hold `Base.exclusive` around it.

    models: by component. Raises PerfError for a model or module that is not there, and for one in GGUF, whose
    weights cannot be added to.
    """
    before: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for adapter in adapters:
                model = models.get(adapter.component)
                module = None if model is None else module_at(model, adapter.module)
                if module is None:
                    raise PerfError(f"there is no {adapter.component} with a `{adapter.module}`")
                if is_gguf(module):
                    raise _in_gguf()
                weight = module.weight
                assert isinstance(weight, Tensor)
                before.append((weight, weight.detach().clone()))
                weight.add_(difference(adapter, weight.float()).to(weight.dtype))
        yield
    finally:
        with torch.no_grad():
            for weight, own in reversed(before):
                weight.copy_(own)


def require_changeable(denoiser: nn.Module) -> None:
    """Raise PerfError for a denoiser in GGUF, which no adapter can be added to the weights of."""
    if any(map(is_gguf, denoiser.modules())):
        raise _in_gguf()


def _in_gguf() -> PerfError:
    return PerfError(
        "nothing can be added to the weights of a GGUF file, and an export is measured so",
        where="perfusion.toml, base.unet",
        hint="name a UNet in fp16 there, or take the line out, while you export",
    )


def pipeline_with(base: Base, words: WordVectors | None, scheduler: str) -> Any:
    """A pipeline of the base that knows a word, as diffusers' own loader puts it there; its denoiser is the
    base's, its text encoders and tokenizers are copies."""
    pipe = base.pipeline(scheduler=scheduler)
    if words is None:
        return pipe
    for component, vectors in words.vectors.items():
        tokenizer = component.replace("text_encoder", "tokenizer")
        theirs = getattr(pipe, component)
        own = {component: without_hooks(theirs, theirs), tokenizer: copy.deepcopy(getattr(pipe, tokenizer))}
        if own[component] is theirs:
            own[component] = copy.deepcopy(theirs)
        pipe.register_modules(**own)
        rows = vectors.to(own[component].dtype)
        with quiet():
            pipe.load_textual_inversion(
                rows, token=words.word, text_encoder=own[component], tokenizer=own[tokenizer]
            )
        own[component].to(base.device)
    return pipe
