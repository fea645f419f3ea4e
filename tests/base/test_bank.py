"""The packed pipeline is the pipeline with every weight edited, and leaves no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perfusion_registry.base import Bank, Base
from perfusion_registry.base.architectures.unet import cross_attentions
from perfusion_registry.edit import CovarianceMetric, rome_weight, ungated
from perfusion_registry.errors import PerfError
from tests.tiny import deeper_unet


@pytest.fixture(scope="module")
def built() -> nn.Module:
    torch.manual_seed(3)
    return deeper_unet().eval()


@pytest.fixture
def unet(built: nn.Module) -> nn.Module:
    return copy.deepcopy(built)


def bank_of(unet: nn.Module) -> Bank:
    return Bank.of(cross_attentions(unet))


def noisy_input(batch: int = 2) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(1)
    return torch.randn(batch, 4, 8, 8, generator=dice), torch.randn(batch, 77, 32, generator=dice)


def run(unet: nn.Module, x: Tensor, context: Tensor) -> Tensor:
    with torch.no_grad():
        return unet(x, 500, context).sample


def test_it_gathers_every_cross_attention_in_the_order_of_execution(unet: nn.Module) -> None:
    bank = bank_of(unet)
    assert bank.W.shape == (2 * (32 + 64 + 64 + 2 * 64 + 2 * 32), 32)
    order: list[str] = []
    hooks = [
        unet.get_submodule(layer.path).register_forward_hook(lambda *_, path=layer.path: order.append(path))
        for layer in bank.layers
    ]
    run(unet, *noisy_input())
    assert order == [layer.path for layer in bank.layers]
    assert len(hooks) == 7
    for layer in bank.layers:
        attention = unet.get_submodule(layer.path)
        assert torch.equal(bank.W[layer.key_slice], attention.to_k.weight)
        assert torch.equal(bank.W[layer.value_slice], attention.to_v.weight)
        assert bool(bank.key_columns[layer.key_slice].all())
        assert not bool(bank.key_columns[layer.value_slice].any())


def test_packed_encodings_give_what_the_projections_give(unet: nn.Module) -> None:
    x, E = noisy_input()
    bank = bank_of(unet)
    expected = run(unet, x, E)
    with bank.attached():
        assert torch.allclose(run(unet, x, E @ bank.W.T), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(32,), (77, 32), (2, 77, 32)])
def test_what_all_projections_give_needs_no_second_copy_of_them(
    unet: nn.Module, shape: tuple[int, ...]
) -> None:
    bank = bank_of(unet)
    E = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    emitted = bank.emitted(E)
    assert "W" not in vars(bank)
    parts = []
    for layer in bank.layers:
        attention = unet.get_submodule(layer.path)
        parts += [attention.to_k(E), attention.to_v(E)]
    assert torch.equal(emitted, torch.cat(parts, -1))
    assert emitted.shape == (*shape[:-1], bank.emitted_width)
    assert torch.allclose(emitted, E @ bank.W.T, atol=1e-6)


def test_it_does_not_matter_where_in_memory_weights_lie(unet: nn.Module) -> None:
    """What is mapped from a file need not lie where kernels like it, and is then rounded otherwise."""
    for attention in cross_attentions(unet):
        for linear in (attention.module.to_k, attention.module.to_v):  # type: ignore[union-attr]
            memory = torch.empty(linear.weight.numel() + 1)
            moved = memory[1:].view_as(linear.weight).copy_(linear.weight)
            linear.weight = nn.Parameter(moved, requires_grad=False)
    bank = bank_of(unet)
    for seed in range(4):
        e = torch.randn(32, generator=torch.Generator().manual_seed(seed))
        alone = [
            bank.W[rows].clone() @ e for layer in bank.layers for rows in (layer.key_slice, layer.value_slice)
        ]
        assert torch.equal(bank.emitted(e), torch.cat(alone))


def test_training_after_drawing_has_a_bank_with_gradients(unet: nn.Module) -> None:
    """A W that was gathered where gradients are off everywhere could not be trained with."""
    bank = bank_of(unet)
    with torch.inference_mode():
        assert not bank.W.requires_grad
    E = torch.randn(3, 32, requires_grad=True)
    (E @ bank.W.T).sum().backward()
    assert torch.allclose(E.grad[0], bank.W.sum(0), atol=1e-4)  # type: ignore[index]


def edited_by_hand(base: Base, edit: Callable[[Tensor, slice], Tensor]) -> dict[str, Tensor]:
    return {
        f"{layer.path}.{name}.weight": edit(
            base.pipe.unet.get_submodule(f"{layer.path}.{name}").weight.detach(), rows
        )
        for layer in base.bank.layers
        for name, rows in (("to_k", layer.key_slice), ("to_v", layer.value_slice))
    }


def test_the_packed_pipeline_equals_the_pipeline_with_every_weight_edited(tiny_base: Base) -> None:
    """Eq. 2 through slices, against Eq. 1 written into each weight, both through the stock pipeline."""
    base, dice = tiny_base, torch.Generator().manual_seed(4)
    E = base.encode([base.tokenise([text]) for text in ("", "a photo of a teddy in the snow")]).states
    i = E[1, 5]
    o = base.bank.W @ i + torch.randn(base.bank.W.shape[0], generator=dice)
    A = torch.randn(32, 32, generator=dice)
    C = A @ A.T + torch.eye(32)

    def draw(embeds: Tensor) -> np.ndarray:
        return base.pipe(
            prompt_embeds=embeds[1:],
            negative_prompt_embeds=embeds[:1],
            num_inference_steps=3,
            guidance_scale=4.0,
            height=64,
            width=64,
            generator=torch.Generator().manual_seed(7),
            output_type="np",
        ).images

    plain = draw(E)
    V = CovarianceMetric(C, ridge=0.0).dual(i[None])
    with base.bank.attached():
        ours = draw(ungated(E, base.bank.W, i[None], V, o[None]))

    before = {name: tensor.clone() for name, tensor in base.pipe.unet.state_dict().items()}
    edited = edited_by_hand(base, lambda weight, rows: rome_weight(weight, C, i, o[rows]))
    try:
        base.pipe.unet.load_state_dict(edited, strict=False)
        by_hand = draw(E)
    finally:
        base.pipe.unet.load_state_dict(before)
    assert np.abs(ours - by_hand).max() < 1e-3
    assert np.abs(ours - plain).max() > 0.05  # the edit is not nothing
    assert np.array_equal(draw(E), plain)


def test_leaving_restores_the_very_same_modules_even_after_an_error(unet: nn.Module) -> None:
    bank = bank_of(unet)
    modules = dict(unet.named_modules())
    state = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    path = bank.layers[0].path
    with bank.attached():
        assert unet.get_submodule(path).to_k is not modules[f"{path}.to_k"]
    with pytest.raises(PerfError, match="is another prompt"), bank.attached():
        run(unet, *noisy_input())  # encodings that are not packed have too few columns
    after = dict(unet.named_modules())
    assert list(after) == list(modules)
    assert all(after[name] is modules[name] for name in modules)
    assert all(torch.equal(tensor, state[name]) for name, tensor in unet.state_dict().items())


def test_a_bias_stays_on_top_of_packed(unet: nn.Module) -> None:
    x, E = noisy_input()
    plain = run(unet, x, E)
    for layer in bank_of(unet).layers:
        attention = unet.get_submodule(layer.path)
        for name in ("to_k", "to_v"):
            old = getattr(attention, name)
            new = nn.Linear(old.in_features, old.out_features, bias=True)
            new.weight = old.weight
            nn.init.normal_(new.bias)
            setattr(attention, name, new)
    expected = run(unet, x, E)
    bank = bank_of(unet)
    with bank.attached():
        ours = run(unet, x, E @ bank.W.T)
    assert torch.allclose(ours, expected, atol=1e-5)
    assert float((expected - plain).abs().max()) > 1e-3


def taken(unet: nn.Module, bank: Bank, packed: Tensor) -> dict[tuple[str, str], Tensor]:
    """What every projection answers while the bank is attached, by layer and name.

    packed: (B, n, D).
    """
    seen: dict[tuple[str, str], Tensor] = {}
    with bank.attached(), ExitStack() as hooks:
        for layer in bank.layers:
            for name in ("to_k", "to_v"):
                module = unet.get_submodule(f"{layer.path}.{name}")
                keep = partial(seen.__setitem__, (layer.path, name))
                handle = module.register_forward_hook(lambda _, __, out, keep=keep: keep(out))
                hooks.callback(handle.remove)
        run(unet, noisy_input()[0].to(next(unet.parameters()).dtype), packed)
    return seen


def relative_error(found: Tensor, exact: Tensor) -> float:
    """The norm of the error, as a part of the norm of the exact values. Both tensors: any one shape."""
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("how", ["bf16 weights", "autocast"])
def test_slices_are_packed_rounded_once_to_what_the_unet_computes_in(unet: nn.Module, how: str) -> None:
    """So a low precision costs the attached UNet no more than it costs the UNet alone, which rounds the
    encodings, the weights and the products. The truth is the UNet in float64."""
    x, E = noisy_input()
    exact = run(copy.deepcopy(unet).double(), x.double(), E.double())
    bank = bank_of(unet)
    context: AbstractContextManager[object] = torch.autocast("cpu", dtype=torch.bfloat16)
    if how == "bf16 weights":
        unet, x, context = unet.to(torch.bfloat16), x.bfloat16(), nullcontext()
        bank = bank_of(unet)
        assert bank.W.dtype == torch.float32
    packed = E @ bank.W.T
    with context:
        slices = taken(unet, bank, packed)
        plain = run(unet, x, E.to(x.dtype))
        with bank.attached():
            ours = run(unet, x, packed)
    for layer in bank.layers:
        for name, columns in (("to_k", layer.key_slice), ("to_v", layer.value_slice)):
            found = slices[layer.path, name]
            assert found.dtype == torch.bfloat16
            assert torch.equal(found, packed[..., columns].bfloat16())
    assert 1e-4 < relative_error(plain, exact) < 0.05
    assert relative_error(ours, exact) < 1.1 * relative_error(plain, exact)


def test_gradients_flow_through_the_slices(unet: nn.Module) -> None:
    x, E = noisy_input()
    bank = bank_of(unet)
    packed = (E @ bank.W.T).requires_grad_()
    with bank.attached():
        unet(x, 500, packed).sample.square().sum().backward()
    assert packed.grad is not None
    for layer in bank.layers:
        assert float(packed.grad[..., layer.key_slice].abs().sum()) > 0
        assert float(packed.grad[..., layer.value_slice].abs().sum()) > 0


class Adapter(nn.Module):
    """What an unmerged LoRA looks like: a layer around the layer."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.weight = inner, inner.weight


def test_a_projection_that_is_not_plain_is_refused_by_name(unet: nn.Module) -> None:
    path = bank_of(unet).layers[3].path
    attention = unet.get_submodule(path)
    attention.to_v = Adapter(attention.to_v)
    with pytest.raises(PerfError, match="`to_v` is a Adapter") as caught:
        bank_of(unet)
    assert caught.value.where == path
    assert "fuse_lora" in str(caught.value.hint)


def test_a_projection_that_is_another_now_is_refused_untouched(unet: nn.Module) -> None:
    """The W of the bank is then of another model: its keys and values would be wrong without a word."""
    bank = bank_of(unet)
    attention = unet.get_submodule(bank.layers[3].path)
    attention.to_v = copy.deepcopy(attention.to_v)
    modules = dict(unet.named_modules())
    with pytest.raises(PerfError, match="`to_v` was exchanged") as caught, bank.attached():
        pass
    assert caught.value.where == bank.layers[3].path
    assert all(module is modules[name] for name, module in unet.named_modules())


def test_a_second_attachment_is_refused_in_words_of_its_own(unet: nn.Module) -> None:
    bank = bank_of(unet)
    with bank.attached():
        for again in (lambda: bank_of(unet), lambda: bank.attached().__enter__()):
            with pytest.raises(PerfError, match="attached to this model already"):
                again()
        assert run(unet, noisy_input()[0], noisy_input()[1] @ bank.W.T).shape == (2, 4, 8, 8)


def test_a_model_without_text_cross_attention_is_refused() -> None:
    with pytest.raises(PerfError, match="no text cross-attention"):
        cross_attentions(nn.Sequential(nn.Linear(3, 3)))
