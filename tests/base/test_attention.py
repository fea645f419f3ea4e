"""Recorded maps are the softmax of Q K^T, and recording changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.base import Base


def inputs(base: Base, size: tuple[int, int] = (8, 8)) -> tuple[Tensor, Tensor]:
    prompts = [base.tokenise([text]) for text in ("a teddy", "a cat in a teapot")]
    return torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0)), base.encode(prompts).states


def by_hand(base: Base, x: Tensor, E: Tensor, positions: list[list[int]], size: tuple[int, int]) -> Tensor:
    """The same maps from hooks on each attn2, one head, sample and layer at a time."""
    maps = []

    def look(attention: torch.nn.Module, args: tuple[Tensor, ...], options: dict[str, Tensor]) -> None:
        hidden = args[0] if args else options["hidden_states"]
        q, k = attention.to_q(hidden), attention.to_k(E)
        width = q.shape[-1] // attention.heads
        halved = {64: (8, 8), 16: (4, 4), 4: (2, 2), 1: (1, 1)}[hidden.shape[1]]
        for head in range(attention.heads):
            part = slice(head * width, (head + 1) * width)
            for sample, at in enumerate(positions):
                share = ((q[sample, :, part] @ k[sample, :, part].T) / width**0.5).softmax(-1)
                one = share[:, at].sum(-1).view(1, 1, *halved)
                maps.append((sample, functional.interpolate(one, size, mode="bilinear")[0, 0]))

    hooks = [
        base.pipe.unet.get_submodule(layer.path).register_forward_pre_hook(look, with_kwargs=True)
        for layer in base.bank.layers
    ]
    try:
        base.pipe.unet(x, 300, E)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([torch.stack([m for s, m in maps if s == sample]).mean(0) for sample in (0, 1)])


@torch.no_grad()
def test_maps_are_the_mean_attention_to_the_chosen_tokens(tiny_base: Base) -> None:
    x, E = inputs(tiny_base)
    positions = [[2], [2, 5]]
    plain = tiny_base.pipe.unet(x, 300, E).sample
    with tiny_base.recorder(positions, (8, 8)) as recorder:
        recorded = tiny_base.pipe.unet(x, 300, E).sample
    assert torch.equal(recorded, plain)
    maps = recorder.maps()
    assert maps.shape == (2, 8, 8)
    assert torch.allclose(maps, by_hand(tiny_base, x, E, positions, (8, 8)), atol=1e-6)


@torch.no_grad()
def test_maps_are_in_fp32_where_the_base_computes_in_bf16(tiny_base: Base) -> None:
    """On any machine: processors with matrix units compute so by themselves."""
    x, E = inputs(tiny_base)
    positions = [[*range(E.shape[1])]] * 2
    with tiny_base.recorder(positions, (8, 8)) as recorder, torch.autocast("cpu", torch.bfloat16):
        tiny_base.pipe.unet(x, 300, E)
    maps = recorder.maps()
    assert maps.dtype == torch.float32
    assert float((maps - 1).abs().max()) < 1e-5


@torch.no_grad()
def test_all_tokens_together_get_all_attention_also_while_packed(tiny_base: Base) -> None:
    x, E = inputs(tiny_base)
    bank, unet = tiny_base.bank, tiny_base.pipe.unet
    everything = [list(range(77))] * 2
    some = [[2], [2]]
    with tiny_base.recorder(some, (8, 8)) as expected:
        unet(x, 300, E)
    with tiny_base.attached():
        with tiny_base.recorder(everything, (8, 8)) as recorder:
            unet(x, 300, E @ bank.W.T)
            unet(x, 100, E @ bank.W.T)
        with tiny_base.recorder(some, (8, 8)) as packed:
            unet(x, 300, E @ bank.W.T)
    assert torch.allclose(recorder.maps(), torch.ones(2, 8, 8), atol=1e-5)
    assert torch.allclose(packed.maps(), expected.maps(), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "largest"), [((40, 24), (20, 12)), ((16, 16), (16, 16)), ((12, 20), (6, 10))]
)
def test_maps_of_any_shape_leave_the_finest_layers_out(
    tiny_base: Base, size: tuple[int, int], largest: tuple[int, int]
) -> None:
    x, E = inputs(tiny_base, size)
    with tiny_base.recorder([[2], [2]], size) as recorder:
        tiny_base.pipe.unet(x, 300, E)
    assert recorder.maps().shape == (2, *largest)


def test_processors_are_back_even_after_an_error(tiny_base: Base) -> None:
    attentions = [tiny_base.pipe.unet.get_submodule(layer.path) for layer in tiny_base.bank.layers]
    before = [attention.processor for attention in attentions]
    with pytest.raises(KeyError), tiny_base.recorder([[1]], (8, 8)):
        raise KeyError
    assert all(a.processor is processor for a, processor in zip(attentions, before, strict=True))


def test_misuse_is_told(tiny_base: Base) -> None:
    x, E = inputs(tiny_base)
    with pytest.raises(ValueError, match="1 samples"), tiny_base.recorder([[1]], (8, 8)):
        tiny_base.pipe.unet(x, 300, E)
    with pytest.raises(ValueError, match="run the denoiser"):
        tiny_base.recorder([[1]], (8, 8)).maps()
