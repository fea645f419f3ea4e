"""From an artifact's tensors to what they change of a base's modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perfusion_registry.adapters.adapter import DENOISER, Adapter, adapters_of
from perfusion_registry.adapters.difference import bias_difference, difference
from perfusion_registry.base import Change, Changes, module_at
from perfusion_registry.base.quantised import shape_of, weight_of
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfusion_registry.base import Base
    from perfusion_registry.methods.transfer import Learned, Transferred


def changes_of(base: Base, tensors: Mapping[str, Tensor], name: str) -> dict[str, Changes]:
    """The changes of the concept `name`, by component and path. Raises PerfError where they do not fit."""
    models = {DENOISER: base.denoiser, **base.text_models}
    found: dict[str, dict[str, Change]] = {}
    for adapter in adapters_of(tensors):
        model = models.get(adapter.component)
        if model is None:
            raise _misfit(base, name, f"it changes a {adapter.component}, which this base does not have")
        module = module_at(model, adapter.module)
        if module is None and adapter.component != DENOISER:
            continue  # a layer that clip skip leaves out
        if module is None:
            raise _misfit(base, name, f"it changes `{adapter.module}`, which this base does not have")
        try:
            change = _change(adapter, module)
        except (ValueError, PerfError) as error:
            raise _misfit(base, name, f"of {adapter.component}'s `{adapter.module}`, {error}") from error
        found.setdefault(adapter.component, {})[adapter.module] = change
    return dict(found)


def as_it_is(learned: Learned, base: Base, adapters: Mapping[str, Tensor]) -> Transferred:
    """A LoRA for another base, as other programs take one from a fine-tuned base to another. adapters: those
    of its tensors. Raises PerfError where it does not fit."""
    from perfusion_registry.methods.lora.words import words_for
    from perfusion_registry.methods.transfer import Transferred

    changes_of(base, adapters, learned.name)
    words_for(base, learned.tensors, learned.name)
    return Transferred(dict(learned.tensors))


def adapters_mistake(adapters: Mapping[str, Tensor]) -> str | None:
    """What keeps an artifact's tensors from being those of one adapter or more; None where nothing does."""
    if not adapters:
        return "it changes nothing"
    try:
        adapters_of(adapters)
    except PerfError as error:
        return error.what
    return None


def _change(adapter: Adapter, module: nn.Module) -> Change:
    """Factored where that is the same: of a plain LoRA."""
    shape = shape_of(module)
    bias = bias_difference(adapter)
    own = adapter.tensors
    if adapter.kind == "lora" and own.keys() <= {"lora_down", "lora_up", "diff_b"}:
        down, up = own["lora_down"], own["lora_up"].flatten(1)
        fits = down.flatten(1).shape[1] == shape[1:].numel() and up.shape[0] == shape[0]
        if not fits or down.shape[0] != up.shape[1]:
            raise ValueError(f"its factors do not fit a weight of shape {tuple(shape)}")
        shaped = down if down.ndim == len(shape) else down.reshape(down.shape[0], *shape[1:])
        return Change(down=shaped, up=up.float() * adapter.scale, bias=bias)
    if not own.keys() - {"diff_b"}:
        return Change(bias=bias)
    return Change(weight=difference(adapter, weight_of(module)), bias=bias)


def _misfit(base: Base, name: str, what: str) -> PerfError:
    return PerfError(
        f"{name!r} does not fit {base.description.repo}: {what}",
        hint="import the file that was made for this base's kind",
    )
