"""What an adapter is: the tensors that change one module of a base, by LyCORIS' names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from torch import Tensor

Component = Literal["denoiser", "text_encoder", "text_encoder_2"]
AdapterKind = Literal["lora", "loha", "lokr", "full"]
DENOISER: Component = "denoiser"
COMPONENTS: tuple[Component, ...] = (DENOISER, "text_encoder", "text_encoder_2")

NAMES: Mapping[AdapterKind, frozenset[str]] = {
    "lora": frozenset({"lora_down", "lora_up", "lora_mid"}),
    "loha": frozenset({f"hada_w{i}_{side}" for i in (1, 2) for side in "ab"} | {"hada_t1", "hada_t2"}),
    "lokr": frozenset({f"lokr_w{i}{side}" for i in (1, 2) for side in ("", "_a", "_b")} | {"lokr_t2"}),
    "full": frozenset({"diff"}),
}
"""The tensors that tell each kind; any may have `dora_scale` and `diff_b` beside them."""
BESIDE = frozenset({"dora_scale", "diff_b"})
ALPHA = "alpha"


@dataclass(frozen=True)
class Adapter:
    """The change of one module.

    component: which model of the base has it; the denoiser is diffusers' `unet`. module: its path there, as
    the files of diffusers and transformers have it, such as
    `down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k` or
    `text_model.encoder.layers.0.self_attn.q_proj`. kind: LoRA (B A), LoHa (a product by elements), LoKr (a
    Kronecker product) or the whole difference. tensors: by LyCORIS' names, without `.weight`, in the shapes
    that the file has. alpha: what the factors are multiplied with and divided by their rank; None where
    nothing says, which is a factor of 1.
    """

    component: Component
    module: str
    kind: AdapterKind
    tensors: Mapping[str, Tensor]
    alpha: float | None = None

    @property
    def rank(self) -> int | None:
        """Of its factors; None where nothing in it has a rank."""
        return rank_of({name: tuple(tensor.shape) for name, tensor in self.tensors.items()})

    @property
    def scale(self) -> float:
        """alpha / rank; 1 where either is missing."""
        return 1.0 if self.alpha is None or self.rank is None else self.alpha / self.rank


@dataclass(frozen=True)
class WordVectors:
    """A word that a file brings (textual inversion): its token embeddings of each text encoder, (n, d_token).

    word: as the file calls it; None where it does not, and the file's own name is the word. vectors: by
    component.
    """

    word: str | None
    vectors: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        """n, the tokens that it takes."""
        return int(next(iter(self.vectors.values())).shape[0])


def kind_of(names: Iterable[str]) -> AdapterKind | None:
    """The kind of an adapter with tensors of these names; None for what is several, or none."""
    told = set(names) - BESIDE - {ALPHA}
    if not told:
        return "full" if "diff_b" in set(names) else None
    return next((kind for kind, own in NAMES.items() if told <= own), None)


def rank_of(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The rank of factors of these shapes, that alpha is divided by; None where nothing has one."""
    for name in ("lora_down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
        if name in shapes:
            return shapes[name][0]
    return None


def artifact_tensors(adapters: Iterable[Adapter]) -> dict[str, Tensor]:
    """Adapters as the tensors of an artifact: `COMPONENT.MODULE.NAME`, and `COMPONENT.MODULE.alpha` (1,)."""
    import torch

    tensors: dict[str, Tensor] = {}
    for adapter in adapters:
        place = f"{adapter.component}.{adapter.module}"
        tensors |= {f"{place}.{name}": tensor for name, tensor in adapter.tensors.items()}
        if adapter.alpha is not None:
            tensors[f"{place}.{ALPHA}"] = torch.tensor([adapter.alpha], dtype=torch.float32)
    return tensors


def adapters_of(tensors: Mapping[str, Tensor]) -> tuple[Adapter, ...]:
    """The way back from `artifact_tensors`, by component and module. Raises PerfError for other tensors."""
    found: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        component, _, rest = key.partition(".")
        module, _, name = rest.rpartition(".")
        found.setdefault((component, module), {})[name] = tensor
    adapters = []
    for (component, module), own in sorted(found.items()):
        kind, at = kind_of(own), next((one for one in COMPONENTS if one == component), None)
        if kind is None or at is None or not module:
            raise PerfError(f"its tensors for `{component}.{module}` are those of no adapter")
        alpha = own.pop(ALPHA, None)
        adapters.append(Adapter(at, module, kind, own, None if alpha is None else float(alpha)))
    return tuple(adapters)
