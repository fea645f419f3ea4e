"""A UNet with residuals is the UNet with its output projections edited by hand, and is itself again after."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from perfusion_registry.base import Base, Factors, Mask, block_widths, marked
from perfusion_registry.base.architectures.unet import cross_attentions, residual_blocks
from perfusion_registry.base.residuals import residuals_attached
from perfusion_registry.errors import PerfError


def factors(unet: nn.Module, seed: int, scale: float = 0.3) -> Factors:
    dice = torch.Generator().manual_seed(seed)
    return {
        path: (torch.randn(2, into, generator=dice) / into**0.5, scale * torch.randn(out, 2, generator=dice))
        for path, (out, into) in block_widths(residual_blocks(unet)).items()
    }


def edited(unet: nn.Module, residual: Factors) -> nn.Module:
    """A copy whose projections have W + B A for their weights."""
    twin = copy.deepcopy(unet)
    for path, (down, up) in residual.items():
        weight = twin.get_submodule(path).proj_out.weight
        with torch.no_grad():
            weight += (up @ down).view_as(weight)
    return twin


def inputs(base: Base) -> tuple[Tensor, Tensor]:
    prompts = [base.tokenise([text]) for text in ("", "a teddy in a teapot")]
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), base.encode(prompts).states


def focus(*tokens: tuple[int, ...]) -> Tensor:
    """(2, 77, J): nothing in the first sample, in the second these tokens for each concept."""
    places = torch.zeros(2, 77, len(tokens))
    for j, at in enumerate(tokens):
        places[1, list(at), j] = 1
    return places


def test_the_blocks_are_those_of_stable_diffusion(tiny_base: Base) -> None:
    widths = block_widths(tiny_base.residual_blocks)
    assert len(widths) == 4
    assert set(widths) == {layer.path.split(".transformer_blocks")[0] for layer in tiny_base.bank.layers}
    assert all(out == into for out, into in widths.values())


@torch.no_grad()
@pytest.mark.parametrize("linear", [False, True])
def test_everywhere_it_is_the_network_edited_by_hand(tiny_base: Base, linear: bool) -> None:
    unet = tiny_base.pipe.unet
    if linear:  # as in Stable Diffusion 2
        torch.manual_seed(0)
        unet = UNet2DConditionModel.from_config(unet.config, use_linear_projection=True).eval()
    x, E = inputs(tiny_base)
    one = factors(unet, 0)
    plain = unet(x, 300, E).sample
    blocks = residual_blocks(unet), cross_attentions(unet)
    with residuals_attached(*blocks, [one], everywhere=True):
        drawn = unet(x, 300, E).sample
    assert torch.allclose(drawn, edited(unet, one)(x, 300, E).sample, atol=1e-4)
    assert not torch.allclose(drawn, plain, atol=1e-2)
    assert torch.equal(unet(x, 300, E).sample, plain)


@torch.no_grad()
@pytest.mark.parametrize("masks", [("ramp", "ramp"), ("median", "median"), ("median", "ramp")])
def test_with_a_focus_each_block_applies_it_where_its_own_map_looks(
    tiny_base: Base, masks: tuple[Mask, Mask]
) -> None:
    """By hand, in the blocks themselves: their own attention, its two maps, and each place in turn."""
    unet, bank = tiny_base.pipe.unet, tiny_base.bank
    x, E = inputs(tiny_base)
    packed = E @ bank.W.T
    both, where = [factors(unet, 0), factors(unet, 1)], focus((2,), (4, 5))
    twin = copy.deepcopy(unet)
    seen: dict[str, Tensor] = {}

    def look(path: str, attention: nn.Module, options: dict[str, Tensor], args: tuple[Tensor, ...]) -> None:
        hidden = args[0] if args else options["hidden_states"]
        q, k = attention.to_q(hidden), attention.to_k(E)
        width = q.shape[-1] // attention.heads
        heads = [slice(h * width, (h + 1) * width) for h in range(attention.heads)]
        maps = [(q[..., h] @ k[..., h].transpose(1, 2) / width**0.5).softmax(-1) for h in heads]
        share = sum(maps) / len(maps)  # (2, p, 77)
        seen[path] = torch.stack([share[..., [2]].sum(-1), share[..., [4, 5]].sum(-1)], -1)

    def add(path: str, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        maps = seen[path][1]  # (p, 2), of the second sample
        relative = maps / maps.amax(0)
        half = [sorted(maps[:, j].tolist())[len(maps) // 2] for j in (0, 1)]
        changed = output.clone()
        for place in range(len(relative)):
            best = relative[place].max()
            winners = [j for j in (0, 1) if relative[place, j] == best]  # both, in a map of one place
            row, column = divmod(place, output.shape[-1])
            for j, mask in enumerate(masks):
                down, up = both[j][path]
                more = up @ (down @ args[0][1, :, row, column])
                inside = float(maps[place, j] >= half[j])
                if mask == "ramp":
                    inside = float((4 * best - 1).clamp(0, 1)) / len(winners) if j in winners else 0.0
                changed[1, :, row, column] += inside * more
        return changed

    for layer in bank.layers:
        path = layer.path.split(".transformer_blocks")[0]
        twin.get_submodule(layer.path).register_forward_pre_hook(
            lambda module, args, options, path=path: look(path, module, options, args), with_kwargs=True
        )
        twin.get_submodule(path).proj_out.register_forward_hook(
            lambda module, args, output, path=path: add(path, args, output)
        )
    plain = unet(x, 300, E).sample
    with tiny_base.attached(both, masks=masks):
        drawn = unet(x, 300, marked(packed, where)).sample
    assert torch.allclose(drawn, twin(x, 300, E).sample, atol=1e-4)
    assert torch.allclose(drawn[0], plain[0], atol=1e-4)  # the empty prompt calls no concept
    assert not torch.allclose(drawn[1], plain[1], atol=1e-2)


@torch.no_grad()
def test_without_a_mask_it_is_in_all_samples_beside_one_that_is_placed(tiny_base: Base) -> None:
    """The paper's normal sampling: the network edited by hand, which the other residual then joins."""
    unet = tiny_base.pipe.unet
    x, E = inputs(tiny_base)
    one, two = factors(unet, 0), factors(unet, 1)
    states = marked(E @ tiny_base.bank.W.T, focus((2,), (4, 5)))
    with tiny_base.attached([one, two], masks=["off", "ramp"]):
        drawn = unet(x, 300, states).sample
    everywhere = edited(unet, one)(x, 300, E).sample
    assert torch.allclose(drawn[0], everywhere[0], atol=1e-4)
    assert not torch.allclose(drawn[1], everywhere[1], atol=1e-2)
    with tiny_base.attached([one], masks=["off"]):
        alone = unet(x, 300, marked(E @ tiny_base.bank.W.T, focus((2,)))).sample
    assert torch.allclose(alone, everywhere, atol=1e-4)


@torch.no_grad()
def test_a_focus_on_nothing_changes_nothing(tiny_base: Base) -> None:
    unet = tiny_base.pipe.unet
    x, E = inputs(tiny_base)
    packed = E @ tiny_base.bank.W.T
    with tiny_base.attached([factors(unet, 0)]):
        drawn = unet(x, 300, marked(packed, focus(()))).sample
    with tiny_base.attached():
        assert torch.equal(drawn, unet(x, 300, packed).sample)


@torch.no_grad()
def test_marks_follow_their_samples_into_any_batch(tiny_base: Base) -> None:
    """Pipelines repeat prompts and add branches of their own; a mark goes wherever its prompt goes."""
    x, E = inputs(tiny_base)
    states = marked(E @ tiny_base.bank.W.T, focus((2,)))
    rows = torch.tensor([1, 0, 1])
    with tiny_base.attached([factors(tiny_base.pipe.unet, 0)]):
        two = tiny_base.pipe.unet(x[[1, 1]], 300, states).sample
        three = tiny_base.pipe.unet(x[[1, 1, 1]], 300, states[rows]).sample
    assert torch.allclose(three, two[rows], atol=1e-5)
    assert not torch.allclose(three[0], three[1], atol=1e-2)


def test_gradients_reach_the_factors_and_nothing_is_left_behind(tiny_base: Base) -> None:
    unet = tiny_base.pipe.unet
    x, E = inputs(tiny_base)
    states = marked(E @ tiny_base.bank.W.T, focus((2,)))
    learned = {p: (a.requires_grad_(), b.requires_grad_()) for p, (a, b) in factors(unet, 0).items()}
    modules = [id(module) for module in unet.modules()]
    processors = [id(processor) for processor in unet.attn_processors.values()]
    names = list(unet.state_dict())
    with tiny_base.attached([learned]):
        unet(x, 300, states).sample.square().mean().backward()
    assert all(float(factor.grad.abs().sum()) > 0 for pair in learned.values() for factor in pair)
    with pytest.raises(RuntimeError), tiny_base.attached([learned]):
        unet(x[:, :1], 300, states)  # one channel where there should be four
    assert [id(module) for module in unet.modules()] == modules
    assert [id(processor) for processor in unet.attn_processors.values()] == processors
    assert list(unet.state_dict()) == names


@torch.no_grad()
def test_attention_can_be_recorded_meanwhile(tiny_base: Base) -> None:
    unet = tiny_base.pipe.unet
    x, E = inputs(tiny_base)
    with (
        tiny_base.attached([factors(unet, 0)]),
        tiny_base.recorder([list(range(77))] * 2, (8, 8)) as recorder,
    ):
        unet(x, 300, marked(E @ tiny_base.bank.W.T, focus((2,))))
    assert torch.allclose(recorder.maps(), torch.ones(2, 8, 8), atol=1e-5)


def test_what_does_not_fit_is_refused(tiny_base: Base) -> None:
    one = dict(factors(tiny_base.pipe.unet, 0))
    path, (down, up) = next(iter(one.items()))
    with pytest.raises(PerfError, match="does not fit"), tiny_base.attached([one | {path: (up, down)}]):
        pass
    del one[path]
    with pytest.raises(PerfError, match="not for this base"), tiny_base.attached([one]):
        pass
    with tiny_base.attached():  # neither has left anything behind
        pass
