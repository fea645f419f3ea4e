"""A GPU that is not there: tensors "on cuda:0" are computed with on the processor, and what CUDA would refuse
because tensors lie in different places is refused.

What it cannot show: memory, kernels' own limits and speed, determinism.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
_AS_CUDA = {"new_tensor"}
"""Makes a tensor out of numbers, where another one lies."""
_FACTORIES = _AS_CUDA | {
    "tensor", "as_tensor", "asarray", "zeros", "ones", "full", "empty", "rand", "randn", "randint", "arange",
    "eye", "linspace", "empty_strided", "randperm", "normal", "tril", "triu", "zeros_like", "ones_like",
    "full_like", "empty_like", "rand_like", "randn_like", "new_zeros", "new_ones", "new_full", "new_empty",
}  # fmt: skip
_TOUCHED = _FACTORIES | {"tolist", "numpy", "__array__", "__set__", "to", "cuda", "cpu"}
"""The names of all calls that are not passed on as they are."""
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class OnCuda(Tensor):
    """A tensor that says it is on cuda:0. value: its numbers, a plain tensor."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> OnCuda:
        made: OnCuda = Tensor._make_wrapper_subclass(
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            layout=value.layout,
            device=CPU,
        )
        made.value = value
        return made

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def get_device(self) -> int:
        return 0

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"cuda({self.value!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute with the numbers, if all that has dimensions is on the GPU."""
        kwargs = kwargs or {}
        tensors: list[Tensor] = []
        plain = _values(args, tensors), _values(kwargs, tensors)
        name = func.overloadpacket._qualified_op_name
        elsewhere = [tensor for tensor in tensors if not isinstance(tensor, OnCuda) and tensor.ndim]
        if name in _INDEXING and isinstance(args[0], OnCuda):  # indices may come from the processor
            elsewhere = [tensor for tensor in elsewhere if all(tensor is not index for index in args[1])]
        if elsewhere and name != "aten::copy_":
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and"
                f" cpu! (when checking {name})"
            )
        out = func(*plain[0], **plain[1])
        if name == "aten::copy_":
            return args[0]
        return _wrapped(out, {id(tensor.value): tensor for tensor in tensors if isinstance(tensor, OnCuda)})


def _values(x: Any, tensors: list[Tensor]) -> Any:
    """What an operator is given, with plain tensors; all tensors that were in it are appended to `tensors`.
    (torch's own walk through trees took as long as what is computed.)"""
    if isinstance(x, Tensor):
        tensors.append(x)
        return x.value if isinstance(x, OnCuda) else x
    if isinstance(x, (list, tuple)):
        items = [_values(item, tensors) for item in x]
        return items if isinstance(x, list) else tuple(items)
    return {key: _values(item, tensors) for key, item in x.items()} if isinstance(x, dict) else x


def _wrapped(out: Any, known: Mapping[int, OnCuda]) -> Any:
    """What an operator gave, on the GPU. known: tensors that were there, by the `id` of their numbers."""
    if isinstance(out, Tensor):
        return out if isinstance(out, OnCuda) else known[id(out)] if id(out) in known else OnCuda(out)
    if isinstance(out, (list, tuple)):
        items = [_wrapped(item, known) for item in out]
        return items if isinstance(out, list) else tuple(items)
    return out


class _Moved(torch.autograd.Function):
    """A copy on the other side, whose gradient comes back to this one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, to_cuda: bool) -> Tensor:
        ctx.to_cuda = to_cuda
        return _copied(x, to_cuda)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _copied(gradient, not ctx.to_cuda), None


class _Calls(TorchFunctionMode):
    """Calls that name a device, and the few that look into a tensor's memory."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name not in _TOUCHED:
            return func(*args, **kwargs or {})
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if isinstance(first, OnCuda):
            if name == "tolist":
                return first.value.tolist()
            if name in ("numpy", "__array__"):
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if name == "__set__" and func == Tensor.data.__set__ and isinstance(first, Tensor):  # type: ignore[attr-defined]
            if isinstance(first, OnCuda) == isinstance(args[1], OnCuda):
                return func(*args, **kwargs)
            other: Tensor = args[1].detach()
            if isinstance(first, torch.nn.Parameter):
                other = torch.nn.Parameter(other, requires_grad=first.requires_grad)
            return torch.utils.swap_tensors(first, other)
        if isinstance(first, Tensor) and name in ("to", "cuda", "cpu"):
            return _moved(func, name, first, list(args[1:]), kwargs)
        beside = isinstance(first, OnCuda) and name in _AS_CUDA and kwargs.get("device") is None
        if name in _FACTORIES and (beside or _is_cuda(kwargs.get("device"))):
            generator = kwargs.get("generator")
            if generator is not None and generator.device.type != "cuda":
                raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
            made = func(*args, **kwargs | {"device": CPU})
            return made if isinstance(made, OnCuda) else _placed(made, to_cuda=True)
        return func(*args, **kwargs)


@contextmanager
def cuda_stand_in() -> Iterator[None]:
    """Within it there is a GPU."""
    gc.collect()  # graphs of tests before, which hold weights that are to be swapped
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch, _Calls():
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        # What optimisers ask of a build for CUDA, which has no driver here; diffusers asks of a kind alone.
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        patch.setattr(torch.accelerator, "current_accelerator", _accelerator)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        patch.setattr(torch, "inference_mode", _inference_mode)  # knows no tensors that wrap others
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            yield
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swapped)


def _inference_mode(mode: bool = True) -> AbstractContextManager[None]:
    return torch.no_grad() if mode else nullcontext()


def _accelerator(check_available: bool = False) -> torch.device | None:
    return None if check_available else CUDA


def _moved(func: Any, name: str, x: Tensor, rest: list[Any], kwargs: dict[str, Any]) -> Tensor:
    was = to_cuda = isinstance(x, OnCuda)
    if name != "to":
        to_cuda = name == "cuda"
    else:
        if kwargs.get("device") is not None:
            to_cuda, kwargs["device"] = _is_cuda(kwargs["device"]), CPU
        for k, value in enumerate(rest):
            if isinstance(value, (str, torch.device)):
                to_cuda, rest[k] = _is_cuda(value), CPU
            elif isinstance(value, Tensor):
                to_cuda, rest[k] = isinstance(value, OnCuda), value.dtype
        x = func(x, *rest, **kwargs)
    if to_cuda == was:
        return x
    if x.requires_grad and not x.is_leaf:
        moved: Tensor = _Moved.apply(x, to_cuda)  # type: ignore[no-untyped-call]
        return moved
    return _placed(x, to_cuda=to_cuda)


def _placed(x: Tensor, *, to_cuda: bool) -> Tensor:
    return _copied(x, to_cuda).requires_grad_(x.requires_grad)


def _copied(x: Tensor, to_cuda: bool) -> Tensor:
    copied = _value(x).detach().clone()
    return OnCuda(copied) if to_cuda else copied


def _value(x: Any) -> Any:
    return x.value if isinstance(x, OnCuda) else x


def _is_cuda(device: Any) -> bool:
    return isinstance(device, (str, torch.device)) and torch.device(device).type == "cuda"
