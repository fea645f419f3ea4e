"""Encodings: what the text encoder makes of tokens, with concepts' own token embeddings in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from perfusion_registry.base.loading import Base


def encode(base: Base, ids: Tensor, embeddings: Mapping[tuple[int, int], Tensor] | None = None) -> Tensor:
    """The text encoder's outputs; without `embeddings`, exactly what the pipeline's `encode_prompt` gives.

    ids: (B, n) int64. embeddings: for (prompt, position) the token embedding (d_token,) to use there instead
    of the token's own; gradients flow to it. Returns (B, n, d) fp32, computed in fp32 even inside
    `base.autocast()`, because C^-1 amplifies rounding. The text encoder is unchanged afterwards.
    """
    encoder = base.text_encoder
    ids = ids.to(base.device)
    mask = None
    if getattr(encoder.config, "use_attention_mask", False):
        ends = (ids == base.pipe.tokenizer.eos_token_id).int()
        mask = (ends.cumsum(-1) - ends == 0).long()  # (B, n), one up to and with the first end token
    with torch.autocast(base.device.type, enabled=False), _overridden(encoder, embeddings or {}):
        E: Tensor = encoder(ids, attention_mask=mask)[0]
    return E.float()


@contextmanager
def _overridden(encoder: Any, embeddings: Mapping[tuple[int, int], Tensor]) -> Iterator[None]:
    """Within it, the encoder's token embedding gives `embeddings` at their (prompt, position)."""
    if not embeddings:
        yield
        return
    prompts, positions = (list(index) for index in zip(*embeddings, strict=True))
    values = torch.stack(list(embeddings.values()))  # (k, d_token)

    def override(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        index = (torch.tensor(prompts, device=output.device), torch.tensor(positions, device=output.device))
        return output.index_put(index, values.to(output.device, output.dtype))

    hook = encoder.get_input_embeddings().register_forward_hook(override)
    try:
        yield
    finally:
        hook.remove()
