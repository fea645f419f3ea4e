"""What stands in for text projections while a composition is attached: slices of packed, or the projections
themselves with what each adds in the thin form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry.base.attention import exactly
from perfusion_registry.base.changes import Change
from perfusion_registry.base.quantised import computes_in
from perfusion_registry.base.thin import Thin
from perfusion_registry.errors import PerfError


@dataclass(eq=False)
class Kept:
    """What went to the caption projection, for the layers behind it."""

    given: Tensor | None = None


class CaptionStandIn(nn.Module):
    """Stands in for a caption projection: keeps what it is given aside, and passes nothing of the usual width
    on.

    What lies between it and the layers may cut its input to their width, or look at its shape.
    """

    def __init__(self, kept: Kept, width: int) -> None:
        super().__init__()
        self.kept, self.width = kept, width

    def forward(self, given: Tensor) -> Tensor:
        """given: (B, n, packed or thin). Returns (B, n, d) zeros."""
        self.kept.given = given
        return given.new_zeros(*given.shape[:-1], self.width)


class StandIn(nn.Module):
    """Stands in for one projection of a layer. width: of an edit in its form, without marks."""

    def __init__(self, width: int, kept: Kept | None) -> None:
        super().__init__()
        self.width = width
        self._kept = kept

    def marks(self, context: Tensor, count: int) -> Tensor:
        """The first `count` columns (B, n, count) that stand beside the edit in what `forward` takes."""
        return self.given(context)[..., self.width : self.width + count]

    def given(self, context: Tensor) -> Tensor:
        """All columns (B, n, `width` or more) of what `forward` takes. Raises PerfError for text that is not
        edited."""
        given = context if self._kept is None else self._kept.given
        assert given is not None
        if given.shape[-1] < self.width:
            raise PerfError(
                "a composition is attached to this model, and what it was called with is another prompt",
                hint="inside `composed` call the pipeline with what it gave, `pipe(**call)`; "
                "draw other prompts outside",
            )
        if self._kept is None:
            return given
        if given.shape[:-1] != context.shape[:-1]:
            raise ValueError(f"text of shape {given.shape[:-1]} became {context.shape[:-1]} on its way")
        return given


class PackedProjection(StandIn):
    """A projection's columns of packed, in the projection's dtype, plus its bias. width: D."""

    def __init__(self, projection: nn.Linear, columns: slice, width: int, kept: Kept | None) -> None:
        super().__init__(width, kept)
        self.columns = columns
        self.dtype = computes_in(projection)
        # Not registered as a parameter: it belongs to the projection that will be back.
        self._bias = [projection.bias] if projection.bias is not None else []

    def forward(self, context: Tensor) -> Tensor:
        """context: (B, n, D or more), packed, or what stands in for it behind a caption projection.

        Returns (B, n, width of this projection).
        """
        packed = self.given(context)
        kind = packed.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.dtype
        part = packed[..., self.columns]
        for bias in self._bias:
            part = part + bias.to(part.device)
        return part.to(dtype)


class ThinProjection(StandIn):
    """A projection with what it adds in the thin form: itself of E_perp, and `G O` of its own columns.

    path: its own, by which adapters change it. columns: of the bank. keys: whether it makes keys. d: of
    encodings. The projection goes wherever its layer goes, and is called as it always is.
    """

    outputs: Tensor

    def __init__(
        self,
        projection: nn.Module,
        path: str,
        thin: Thin,
        columns: slice,
        keys: bool,
        d: int,
        kept: Kept | None,
    ) -> None:
        super().__init__(thin.columns(d), kept)
        self.projection = projection
        self._first = d + thin.gates if keys else 0
        self._d, self._gates = d, thin.gates
        outputs = thin.outputs.new_zeros(thin.gates, columns.stop - columns.start)
        outputs[: len(thin.outputs)] = thin.outputs[:, columns]
        self.register_buffer("outputs", outputs, persistent=False)
        self._changes = [
            (len(thin.outputs) + number, changes[path].on(outputs, strength))
            for number, (changes, strength) in enumerate(thin.changes)
            if path in changes
        ]

    def forward(self, context: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """context: (B, n, thin or more), or what stands in for it behind a caption projection. Whatever else
        the projection is called with is its own.

        Returns (B, n, width of this projection).
        """
        own = self.given(context)[..., self._first : self._first + self._d + self._gates]
        E, gates = own[..., : self._d].contiguous(), own[..., self._d :].float()
        out: Tensor = self.projection(E, *args, **kwargs)
        with exactly(out):
            added = gates @ self.outputs.to(out.device, torch.float32)
            for column, change in self._ready(out):
                added = added + gates[..., column : column + 1] * change.linear(E.to(out.dtype)).float()
            return (out.float() + added).to(out.dtype)

    def _ready(self, place: Tensor) -> list[tuple[int, Change]]:
        """The adapters' changes where the projection computes, and as it does."""
        if self._changes and not self._changes[0][1].fits(place):
            self._changes = [(column, change.on(place)) for column, change in self._changes]
        return self._changes
