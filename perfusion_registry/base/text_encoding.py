"""Token ids as a text encoder takes them, and concepts' own embeddings in the place of tokens'."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry.base.conditioning import Embeddings
from perfusion_registry.base.tokens import Tokens


def padded_ids(prompts: Sequence[Tokens], encoder: int, padding: int, length: int | None = None) -> Tensor:
    """The ids (B, n) int64 of one text encoder, filled up to the longest, or to `length`: in chunks with
    blank ones, others with `padding`."""
    n = length or max(len(prompt.ids[encoder]) for prompt in prompts)
    rows = []
    for prompt in prompts:
        row = prompt.ids[encoder]
        missing = n - len(row)
        if prompt.blank and missing:
            filling = prompt.blank[encoder] * (missing // prompt.chunk)
        else:
            filling = (padding,) * missing
        rows.append(row + filling)
    return torch.tensor(rows)


@dataclass(frozen=True, eq=False)
class Chunked:
    """What a text encoder reads of B prompts of n positions, each of their k chunks by itself.

    ids: (B k, c) int64. values: by (row, position) of that. prompts: B.
    """

    ids: Tensor
    values: dict[tuple[int, int], Tensor]
    prompts: int

    @classmethod
    def of(cls, prompts: Sequence[Tokens], ids: Tensor, values: Mapping[tuple[int, int], Tensor]) -> Chunked:
        """ids, values: of whole prompts, (B, n) and by (prompt, position)."""
        chunk = prompts[0].chunk if prompts[0].blank else ids.shape[1]
        count = ids.shape[1] // chunk
        moved = {
            (prompt * count + position // chunk, position % chunk): value
            for (prompt, position), value in values.items()
        }
        return cls(ids.reshape(-1, chunk), moved, len(ids))

    def whole(self, states: Tensor) -> Tensor:
        """The states (B k, c, d) of the chunks as those of prompts, (B, n, d)."""
        return states.reshape(self.prompts, -1, states.shape[-1])

    def first(self, pooled: Tensor | None) -> Tensor | None:
        """Of what stands for whole chunks, (B k, p), that of each prompt's first, (B, p)."""
        return None if pooled is None else pooled[:: len(pooled) // self.prompts]


def penultimate_states(
    encoder: Any, ids: Tensor, values: Mapping[tuple[int, int], Tensor]
) -> tuple[Tensor, Tensor | None]:
    """The states (B, n, d) fp32 before a CLIP text encoder's last layer, without its final norm, and what it
    makes of a whole prompt, (B, p) fp32, where it has a projection for that; as SDXL takes them.

    ids: (B, n) int64, on the encoder's device. values: as in `replaced_embeddings`.
    """
    with (
        torch.autocast(ids.device.type, enabled=False),
        replaced_embeddings(encoder.get_input_embeddings(), values),
    ):
        out = encoder(ids, output_hidden_states=True)
    pooled = getattr(out, "text_embeds", None)
    return out.hidden_states[-2].float(), None if pooled is None else pooled.float()


def clip_states(encoder: Any, ids: Tensor, values: Mapping[tuple[int, int], Tensor], end: int) -> Tensor:
    """The last states (B, n, d) fp32 of a CLIP text encoder, as diffusers' `encode_prompt` takes them.

    ids: (B, n) int64, on the encoder's device. values: as in `replaced_embeddings`. end: the id of the end
    token. Computed in the encoder's own format even inside of autocast.
    """
    mask = None
    if getattr(encoder.config, "use_attention_mask", False):
        ends = (ids == end).int()
        mask = (ends.cumsum(-1) - ends == 0).long()  # (B, n), one up to and with the first end token
    with (
        torch.autocast(ids.device.type, enabled=False),
        replaced_embeddings(encoder.get_input_embeddings(), values),
    ):
        states: Tensor = encoder(ids, attention_mask=mask)[0]
    return states.float()


def t5_states(encoder: Any, ids: Tensor, mask: Tensor, values: Mapping[tuple[int, int], Tensor]) -> Tensor:
    """The last states (B, n, d) fp32 of a T5 encoder.

    ids: (B, n) int64, on the encoder's device. mask: (B, n) bool, true where there is text. values: as in
    `replaced_embeddings`; of a T5, `get_input_embeddings` names another module than the one that runs.
    """
    with (
        torch.autocast(ids.device.type, enabled=False),
        replaced_embeddings(encoder.encoder.embed_tokens, values),
    ):
        states: Tensor = encoder(ids, attention_mask=mask.long())[0]
    return states.float()


def text_mask(lengths: Sequence[int], positions: int, device: torch.device) -> Tensor:
    """(B, positions) bool, true at the first `lengths` of each row."""
    until = torch.tensor(list(lengths), device=device)[:, None]
    return torch.arange(positions, device=device) < until


def embedding_values(
    prompts: Sequence[Tokens], embeddings: Embeddings | None, encoder: int
) -> dict[tuple[int, int], Tensor]:
    """What each position of an encoder's ids gets: (prompt, position) -> (d_token,)."""
    values = {}
    for (prompt, concept), given in (embeddings or {}).items():
        places = prompts[prompt].places[concept][encoder]
        own = given[encoder]
        vectors = [own] if isinstance(own, Tensor) and own.ndim == 1 else list(own)  # v of (d_token,)
        for position, vector in zip(places, vectors, strict=True):
            if vector is not None:
                values[prompt, position] = vector
    return values


@contextmanager
def replaced_embeddings(table: nn.Module, values: Mapping[tuple[int, int], Tensor]) -> Iterator[None]:
    """Within it, an embedding table gives `values` at their (prompt, position); gradients flow to them.

    Only for calls of this thread: another may use the same encoder meanwhile.
    """
    if not values:
        yield
        return
    thread = threading.get_ident()
    prompts, positions = (list(index) for index in zip(*values, strict=True))
    stacked = torch.stack(list(values.values()))  # (k, d_token)

    def replace(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if threading.get_ident() != thread:
            return output
        index = (torch.tensor(prompts, device=output.device), torch.tensor(positions, device=output.device))
        return output.index_put(index, stacked.to(output.device, output.dtype))

    hook = table.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
