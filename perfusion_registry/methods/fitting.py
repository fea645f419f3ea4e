"""Whether what a concept learned has the widths of a base that it is transferred to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.embeddings import EMBEDDING, embedding_name
from perfusion_registry.methods.residuals.tensors import residual_of
from perfusion_registry.methods.transfer import Learned

if TYPE_CHECKING:
    from perfusion_registry.base import Base


def require_fit(learned: Learned, base: Base, layers: Mapping[str, int] | None = None) -> None:
    """Raise PerfError where embeddings, layers or a residual are of other widths than the base's.

    layers: what the concept has for each cross-attention layer, its width by path; None where it has nothing.
    """
    from perfusion_registry.base import block_widths

    tensors = learned.tensors
    own = {key: int(value.shape[-1]) for key, value in tensors.items() if key.startswith(EMBEDDING)}
    tables = {
        embedding_name(encoder): int(table.weight.shape[1])
        for encoder, table in enumerate(base.embedding_tables)
    }
    if own and own != tables:
        raise unlike(learned.name, base, "token embeddings")
    if layers is not None:
        values = {layer.path: layer.value_slice.stop - layer.value_slice.start for layer in base.bank.layers}
        if layers != values:
            raise unlike(learned.name, base, "cross-attention layers")
    residual = {path: (up.shape[0], down.shape[1]) for path, (down, up) in residual_of(tensors).items()}
    if residual and residual != block_widths(base.residual_blocks):
        raise unlike(learned.name, base, "transformer blocks")


def unlike(name: str, base: Base, what: str) -> PerfError:
    """The error for a concept that was learned on a base of other widths."""
    return PerfError(
        f"{name!r} cannot be transferred to {base.description.repo}: "
        f"it was learned on a base with other {what}",
        hint=f"learn it there: `perf build {name}` in a project of that base",
    )
