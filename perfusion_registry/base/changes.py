"""What adapters add to what single modules give: attached as hooks, so that no weight is ever touched.

A module's weight W that becomes W + s D gives `module(x) + s D x`. D stays factored where it is low-rank.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfusion_registry.base.quantised import place_of
from perfusion_registry.errors import PerfError


@dataclass(frozen=True, eq=False)
class Change:
    """What is added to what one module gives, at strength 1.

    down, up: A (r, m) and B (m', r), of convolutions with their kernels, B's of one place. weight: instead of
    both, the whole difference, in the shape of the module's weight. bias: (m',), added to the module's.
    """

    down: Tensor | None = None
    up: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None

    def on(self, place: Tensor, strength: float = 1.0) -> Change:
        """The same `strength` times, on the device and in the format of a tensor."""

        def moved(tensor: Tensor | None, factor: float) -> Tensor | None:
            if tensor is not None and factor != 1:
                tensor = tensor.float() * factor
            return None if tensor is None else tensor.to(place)

        return Change(
            moved(self.down, 1.0),
            moved(self.up, strength),
            moved(self.weight, strength),
            moved(self.bias, strength),
        )

    def fits(self, place: Tensor) -> bool:
        """Whether it is on the device and in the format of a tensor."""
        parts = self.down, self.up, self.weight, self.bias
        return all(p is None or (p.device, p.dtype) == (place.device, place.dtype) for p in parts)

    def near(self, place: Tensor) -> Change:
        """The same on a tensor's device."""
        parts = self.down, self.up, self.weight, self.bias
        if all(part is None or part.device == place.device for part in parts):
            return self
        return Change(*(None if part is None else part.to(place.device) for part in parts))

    def linear(self, x: Tensor) -> Tensor:
        """What is added where a linear layer reads x (..., m); (..., m')."""
        if self.down is not None and self.up is not None:
            added = functional.linear(functional.linear(x, self.down.flatten(1)), self.up.flatten(1))
            return added if self.bias is None else added + self.bias
        if self.weight is None:
            assert self.bias is not None
            return self.bias.expand(*x.shape[:-1], -1)
        return functional.linear(x, self.weight.flatten(1), self.bias)

    def added(self, module: nn.Module, x: Tensor) -> Tensor:
        """What is added where a module of a kind that adapters change reads x. Raises PerfError for
        another."""
        if isinstance(module, nn.Linear):
            return self.linear(x)
        if isinstance(module, nn.Conv2d):
            return self._convolved(module, x)
        if isinstance(module, nn.Embedding):
            return self._embedded(x)
        if isinstance(module, nn.LayerNorm):
            weight = torch.zeros_like(module.weight, device=x.device) if self.weight is None else self.weight
            return functional.layer_norm(x, module.normalized_shape, weight, self.bias, module.eps)
        if isinstance(module, nn.GroupNorm):
            weight = torch.zeros_like(module.weight, device=x.device) if self.weight is None else self.weight
            return functional.group_norm(x, module.num_groups, weight, self.bias, module.eps)
        raise PerfError(f"an adapter changes a {type(module).__name__}, which perf cannot change")

    def _embedded(self, ids: Tensor) -> Tensor:
        """Of an embedding table, whose rows are m' and whose numbers of each are m."""
        if self.down is not None and self.up is not None:
            return functional.embedding(ids, self.up.flatten(1)) @ self.down
        assert self.weight is not None
        return functional.embedding(ids, self.weight)

    def _convolved(self, module: nn.Conv2d, x: Tensor) -> Tensor:
        how: dict[str, Any] = {"stride": module.stride, "padding": module.padding}
        how |= {"dilation": module.dilation, "groups": module.groups}
        if self.down is not None and self.up is not None:
            kernel = self.down if self.down.ndim == 4 else self.down[..., None, None]
            inner = functional.conv2d(x, kernel, None, **how)
            return functional.conv2d(inner, self.up.flatten(1)[..., None, None], self.bias)
        if self.weight is None:
            assert self.bias is not None
            return self.bias[:, None, None]
        weight = self.weight.reshape(module.weight.shape)
        return functional.conv2d(x, weight, self.bias, **how)


@dataclass(eq=False)
class Ready:
    """A change of a module that is not always where it computes: fetched when the module is first called."""

    change: Change

    def added(self, module: nn.Module, x: Tensor) -> Tensor:
        """As `Change.added`."""
        self.change = self.change.near(x)
        return self.change.added(module, x)


Changes = Mapping[str, Change]
"""Of the modules of one model, by path."""

Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]


def module_at(model: nn.Module, path: str) -> nn.Module | None:
    """The module of a model that files of weights call so, None where there is none, as of layers that
    `clip_skip` leaves out. Some versions of transformers have a text encoder's layers within `text_model`,
    and others have not."""
    for name in (path, path.removeprefix("text_model."), f"text_model.{path}"):
        try:
            return model.get_submodule(name)
        except AttributeError:
            continue
    return None


@contextmanager
def hooked(hooks: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """A context in which modules have these hooks behind them."""
    with ExitStack() as kept:
        for module, hook in hooks:
            kept.callback(module.register_forward_hook(hook).remove)
        yield


def everywhere(model: nn.Module, changes: Changes, strength: float) -> Iterator[tuple[nn.Module, Hook]]:
    """The hooks of changes that apply at all places, in all samples, as they are now."""
    for path, change in changes.items():
        module = module_at(model, path)
        assert module is not None
        ready = Ready(change.on(place_of(module), strength))

        def add(module: nn.Module, inputs: Any, output: Tensor, ready: Ready = ready) -> Tensor:
            return output + ready.added(module, inputs[0]).to(output.dtype)

        yield module, add


def learned(model: nn.Module, changes: Changes) -> Iterator[tuple[nn.Module, Hook]]:
    """The hooks of changes that apply everywhere, whatever they are when a module is called; gradients flow
    to them."""
    for path, change in changes.items():
        module = module_at(model, path)
        assert module is not None

        def add(module: nn.Module, inputs: Any, output: Tensor, change: Change = change) -> Tensor:
            now = change.on(place_of(module)).near(inputs[0])
            return output + now.added(module, inputs[0]).to(output.dtype)

        yield module, add


@contextmanager
def text_changed(
    encoders: Mapping[str, nn.Module], changes: Sequence[tuple[Mapping[str, Changes], float]]
) -> Iterator[None]:
    """A context in which this thread's calls of text encoders have changes in them; other threads may use the
    same encoders meanwhile.

    encoders: by component. changes: by component, and how strongly.
    """
    thread = threading.get_ident()

    def mine(hook: Hook) -> Hook:
        return lambda *given: hook(*given) if threading.get_ident() == thread else None

    hooks = [
        (module, mine(hook))
        for by_component, strength in changes
        for component, encoder in encoders.items()
        if component in by_component and strength
        for module, hook in everywhere(encoder, by_component[component], strength)
    ]
    with hooked(hooks):
        yield
