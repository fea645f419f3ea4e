"""Text encoders beside a pipeline, in fp32. Importing this needs no torch."""

from __future__ import annotations

from typing import Any

from perfusion_registry.base.identity import BaseDescription


def live_text_encoder(
    own: Any, denoiser: Any, description: BaseDescription | None, component: str = "text_encoder"
) -> Any:
    """A live pipeline's text encoder in fp32, where the denoiser's weights are, or rest while they are
    offloaded."""
    from perfusion_registry.base.offloading import without_hooks

    rests = next(denoiser.parameters()).device
    return without_hooks(fp32_text_encoder(own, description, component), own).to(rests)


def fp32_text_encoder(own: Any, description: BaseDescription | None, component: str = "text_encoder") -> Any:
    """A text encoder in fp32: a pipeline's own one, else from the base's files, else a copy."""
    import torch

    if own.dtype == torch.float32:
        return own
    if description is None:
        from perfusion_registry.base.offload_hooks import plain_copy

        return plain_copy(own).float()
    from perfusion_registry.base.checkpoint_loading import load_text_encoder
    from perfusion_registry.base.pretrained import load_pretrained

    if description.in_one_file:
        return load_text_encoder(description, component)
    folder, variant = description.folder / component, description.variants.get(component)
    return load_pretrained(type(own), folder, f"the {component}", dtype=torch.float32, variant=variant)
