"""Text encoders beside a pipeline, in fp32. Importing this needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    import torch


def live_text_encoder(
    own: Any, denoiser: Any, description: BaseDescription | None, component: str = "text_encoder"
) -> Any:
    """A live pipeline's text encoder in fp32, where the denoiser's weights are, or rest while they are
    offloaded. Raises PerfError for one with LoRAs that are not merged, of which no family could be told."""
    from perfusion_registry.base.offloading import without_hooks

    if any(hasattr(module, "base_layer") for module in own.modules()):
        raise PerfError(
            f"the pipeline's `{component}` has a LoRA that is not merged",
            hint="merge it first, by `pipe.fuse_lora()` and then `pipe.unload_lora_weights()`; "
            "those of the denoiser need not be",
        )
    rests = next(denoiser.parameters()).device
    return without_hooks(fp32_text_encoder(own, description, component), own).to(rests)


def fp32_text_encoder(
    own: Any, description: BaseDescription | None, component: str = "text_encoder", *, shared: bool = False
) -> Any:
    """A text encoder that computes in fp32: a pipeline's own one, else from the base's files, else a copy.

    A large one keeps its numbers in 16 bits where its files have these (`base.upcasting`). shared: it may be
    the pipeline's own weights that it keeps.
    """
    import torch

    from perfusion_registry.base.upcasting import is_large, upcast, upcast_of

    if own.dtype == torch.float32:
        return own
    if description is None:
        from perfusion_registry.base.offload_hooks import plain_copy

        copied = plain_copy(own)
        return upcast(copied, own.dtype) if is_large(own) else copied.float()
    from perfusion_registry.base.checkpoint_loading import load_text_encoder
    from perfusion_registry.base.pretrained import load_pretrained

    if description.in_one_file:
        return load_text_encoder(description, component)
    folder, variant = description.folder / component, description.variants.get(component)
    kept = _kept(folder, variant, own) if is_large(own) and not description.options.changes_text else None
    if shared and kept == own.dtype:
        return upcast_of(own)
    dtype = torch.float32 if kept is None else kept
    loaded = load_pretrained(type(own), folder, f"the {component}", dtype=dtype, variant=variant)
    return loaded if kept is None else upcast(loaded, kept)


def _kept(folder: Path, variant: str | None, own: Any) -> torch.dtype | None:
    """The 16 bits that a text encoder's files have; see `kept_format`."""
    from perfusion_registry.base.upcasting import kept_format
    from perfusion_registry.base.weights import is_learned, tensor_entries, weight_files

    apart = {*(getattr(own, "_keep_in_fp32_modules", None) or ())}
    formats: dict[bool, set[str]] = {False: set(), True: set()}
    for path in weight_files(folder, variant):
        for name, entry in tensor_entries(path).items() if path.suffix == ".safetensors" else ():
            if is_learned(name, entry):
                formats[bool(apart & {*name.split(".")})].add(entry.dtype)
    return kept_format(formats[False], formats[True])
