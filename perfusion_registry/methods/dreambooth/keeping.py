"""What an artifact keeps of a difference: of each layer the greatest singular values, or all of it.

| tensor | meaning | shape | type |
|---|---|---|---|
| `<model>.<module>.lora_down` | A, whose product with B is nearest to a weight's difference | (r, m) | fp16 |
| `<model>.<module>.lora_up` | B | (m', r) | fp16 |
| `<model>.<module>.diff` | the difference itself, where factors are no smaller | of the weight | fp16 |
| `<model>.<module>.diff_b` | of a bias | (m',) | fp32 |

Of a convolution m counts its kernels' numbers too. Factors are no smaller of norms, of narrow layers, and
where `rank = "full"` asks for everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Size, Tensor

from perfusion_registry.methods.dreambooth.options import FULL
from perfusion_registry.methods.dreambooth.weights import WEIGHT


@dataclass(frozen=True, eq=False)
class Kept:
    """tensors: of the artifact. energy: how much of the sum of all squared numbers they are."""

    tensors: dict[str, Tensor]
    energy: float


def is_factored(shape: Size, rank: int | str) -> bool:
    """Whether factors of that rank are smaller than a difference of that shape."""
    if rank == FULL or len(shape) < 2:
        return False
    rows, columns = shape[0], shape[1:].numel()
    return int(rank) * (rows + columns) < rows * columns


def factors(difference: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A (r, m) and B (m', r), whose product has the greatest `rank` singular values of a matrix (m', m).

    From the eigenvectors of the smaller of D D^T and D^T D, in fp64; the roots of the singular values are in
    both, so that neither is too small for fp16.
    """
    D = difference.double()
    wide = D.shape[0] <= D.shape[1]
    squares, vectors = torch.linalg.eigh(D @ D.T if wide else D.T @ D)
    chosen = vectors[:, -rank:].flip(-1)
    root = squares[-rank:].flip(-1).clamp_min(0) ** 0.25
    inverse = torch.where(root > 0, 1 / root, torch.zeros_like(root))
    if wide:
        return (inverse[:, None] * (chosen.T @ D)).float(), (chosen * root).float()
    return (root[:, None] * chosen.T).float(), ((D @ chosen) * inverse).float()


@torch.no_grad()
def kept(differences: Mapping[str, Tensor], rank: int | str) -> Kept:
    """What an artifact keeps. differences: by name, in fp32."""
    tensors: dict[str, Tensor] = {}
    lost = whole = 0.0
    for name, difference in differences.items():
        own = difference.detach().float().cpu()
        whole += float(own.double().square().sum())
        module, _, kind = name.rpartition(".")
        if kind == WEIGHT and is_factored(own.shape, rank):
            flat = own.flatten(1)
            down, up = (factor.half() for factor in factors(flat, int(rank)))
            tensors |= {f"{module}.lora_down": down.contiguous(), f"{module}.lora_up": up.contiguous()}
            lost += float((flat - up.float() @ down.float()).double().square().sum())
        else:
            tensors[name] = (own.half() if kind == WEIGHT else own).contiguous()
    return Kept(tensors, 1.0 if not whole else max(0.0, 1 - lost / whole))


def bytes_kept(shapes: Mapping[str, Size], rank: int | str) -> int:
    """How large the tensors are that an artifact keeps of differences of these shapes."""
    size = 0
    for name, shape in shapes.items():
        if not name.endswith(f".{WEIGHT}"):
            size += 4 * shape.numel()
        elif is_factored(shape, rank):
            size += 2 * int(rank) * (shape[0] + shape[1:].numel())
        else:
            size += 2 * shape.numel()
    return size
