"""The change of a weight that an adapter is, by LyCORIS' formulas.

    LoRA     alpha / r  B A                    with a kernel `mid` M: sum over m, n of B_om M_mn A_ni
    LoHa     alpha / r  (A1 B1) * (A2 B2)      by elements; with kernels as above
    LoKr     alpha / r  W1 (x) W2              Kronecker's product; either may be factored
    full     as it is
    DoRA     m (W + D) / |W + D| - W           of any of these: norms over all but one dimension, that of m

LyCORIS: arXiv 2309.14859; DoRA: arXiv 2402.09353.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from perfusion_registry.adapters.adapter import Adapter


def difference(adapter: Adapter, weight: Tensor) -> Tensor:
    """The change of a module's weight at strength 1, in the weight's shape, in fp32 (or fp64, as the weight).

    A strength s adds s times this, of DoRA too. weight: (out, in) or (out, in, kernel...) as the base has it,
    on any device; its numbers matter to DoRA alone. Raises ValueError where the shapes do not fit.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    tensors = {name: tensor.to(weight.device, dtype) for name, tensor in adapter.tensors.items()}
    try:
        change = _FORMULAS[adapter.kind](tensors, weight.shape[2:]) * adapter.scale
        change = change.reshape(weight.shape) if change.numel() else torch.zeros_like(weight, dtype=dtype)
    except RuntimeError as error:
        raise ValueError(f"its tensors do not fit a weight of shape {tuple(weight.shape)}") from error
    magnitude = tensors.get("dora_scale")
    return change if magnitude is None else _decomposed(weight.to(dtype), change, magnitude)


def bias_difference(adapter: Adapter) -> Tensor | None:
    """The change of a module's bias at strength 1, (out,) in fp32; None where it has none."""
    change = adapter.tensors.get("diff_b")
    return None if change is None else change.float().flatten()


def _lora(tensors: Mapping[str, Tensor], kernel: torch.Size) -> Tensor:
    up, down = tensors["lora_up"].flatten(1), tensors["lora_down"]
    if "lora_mid" in tensors:
        return torch.einsum("mn...,om,ni->oi...", tensors["lora_mid"], up, down.flatten(1))
    return up @ down.flatten(1)


def _loha(tensors: Mapping[str, Tensor], kernel: torch.Size) -> Tensor:
    halves = []
    for number in (1, 2):
        a, b = tensors[f"hada_w{number}_a"].flatten(1), tensors[f"hada_w{number}_b"].flatten(1)
        middle = tensors.get(f"hada_t{number}")
        halves.append(a @ b if middle is None else torch.einsum("mn...,mo,ni->oi...", middle, a, b))
    return halves[0] * halves[1]


def _lokr(tensors: Mapping[str, Tensor], kernel: torch.Size) -> Tensor:
    first = tensors.get("lokr_w1")
    if first is None:
        first = tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    second = tensors.get("lokr_w2")
    if second is None:
        a, b = tensors["lokr_w2_a"], tensors["lokr_w2_b"]
        middle = tensors.get("lokr_t2")
        second = a @ b.flatten(1) if middle is None else torch.einsum("mn...,mo,ni->oi...", middle, a, b)
    second = second.reshape(second.shape[0], -1, *(kernel or (1,)))
    return torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - 2)), second.contiguous())


def _full(tensors: Mapping[str, Tensor], kernel: torch.Size) -> Tensor:
    return tensors.get("diff", torch.zeros(0))


_FORMULAS = {"lora": _lora, "loha": _loha, "lokr": _lokr, "full": _full}


def _decomposed(weight: Tensor, change: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA. magnitude: (out,) or (out, 1...) for norms of outputs, (1, in, 1...) for norms of inputs."""
    whole = weight + change
    of_inputs = magnitude.ndim > 1 and magnitude.shape[0] == 1 and weight.shape[0] != 1
    kept = 1 if of_inputs else 0
    others = [dimension for dimension in range(weight.ndim) if dimension != kept]
    norm = torch.linalg.vector_norm(whole, dim=others, keepdim=True) + torch.finfo(whole.dtype).eps
    decomposed: Tensor = whole * (magnitude.reshape(norm.shape) / norm) - weight
    return decomposed
