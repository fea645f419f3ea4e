"""The thin form: each projection makes its part of an edit by itself, and stays what it is meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn
from torch.nn import functional

from perfusion_registry import edit
from perfusion_registry.base import Bank, Change, Conditioning, Thin, marked
from perfusion_registry.base.architectures.unet import cross_attentions
from perfusion_registry.errors import PerfError
from tests.sdxl import shallow_xl_unet
from tests.tiny import tiny_unet

BIAS, TEMPERATURE = 0.65, 0.15


@pytest.fixture(scope="module", params=["SD", "SDXL"])
def built(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(3)
    return (tiny_unet() if request.param == "SD" else shallow_xl_unet()).eval().requires_grad_(False)


@pytest.fixture
def unet(built: nn.Module) -> nn.Module:
    return copy.deepcopy(built)


def bank_of(unet: nn.Module) -> Bank:
    return Bank.of(cross_attentions(unet))


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encodings(bank: Bank) -> Tensor:
    return noise(2, 77, bank.width, seed=2)


@torch.no_grad()
def run(unet: Any, context: Tensor, **how: Any) -> Tensor:
    """What a UNet answers to two noisy pictures."""
    x, dtype = noise(2, 4, 8, 8), next(unet.parameters()).dtype
    if unet.config.addition_embed_type:
        told = {"text_embeds": noise(2, 48, seed=3).to(dtype), "time_ids": torch.full((2, 6), 64.0)}
        how = {**how, "added_cond_kwargs": told}
    answer: Tensor = unet(x.to(dtype), 500, context, **how).sample
    return answer


def edit_of(bank: Bank, E: Tensor, J: int, seed: int = 4) -> tuple[Tensor, Tensor, Thin, Tensor]:
    """E_perp, G, and the edit by J concepts in both forms."""
    I = E[0, 3 : 3 + J]  # noqa: E741 (the paper's symbols)
    V = edit.CovarianceMetric(torch.eye(bank.width) + 0.1).dual(I)
    O = noise(J, bank.emitted_width, seed=seed)  # noqa: E741
    gates = torch.full((J,), BIAS), torch.full((J,), TEMPERATURE)
    rest, G = edit.parted(E, I, V, *gates)
    return rest, G, Thin(O), edit.packed(E, bank.W, I, V, O, *gates)


@contextmanager
def emitting(unet: nn.Module, bank: Bank, rest: Tensor, G: Tensor, thin: Thin) -> Iterator[None]:
    """Each projection gives what Eq. 4 says, worked out layer by layer, by hooks."""
    handles = []
    for layer in bank.layers:
        for name, columns in (("to_k", layer.key_slice), ("to_v", layer.value_slice)):
            linear: Any = unet.get_submodule(f"{layer.path}.{name}")
            row = functional.linear(rest, linear.weight, linear.bias) + G @ thin.outputs[:, columns]
            handles.append(linear.register_forward_hook(lambda *_, row=row: row))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def with_biases(unet: nn.Module) -> None:
    for attention in cross_attentions(unet):
        for name in ("to_k", "to_v"):
            old = getattr(attention.module, name)
            new = nn.Linear(old.in_features, old.out_features)
            new.weight = old.weight
            setattr(attention.module, name, new.requires_grad_(False))


@pytest.mark.parametrize("biased", [False, True])
def test_it_is_the_model_edited_by_hand_to_the_last_bit(unet: nn.Module, biased: bool) -> None:
    if biased:
        with_biases(unet)
    bank = bank_of(unet)
    E = encodings(bank)
    rest, G, thin, packed = edit_of(bank, E, 2)
    plain, modules = run(unet, E), dict(unet.named_modules())
    with bank.attached(thin):
        ours = run(unet, thin.given((rest, G), (rest, G)))
    assert dict(unet.named_modules()) == modules
    with emitting(unet, bank, rest, G, thin):
        assert torch.equal(ours, run(unet, E))
    with bank.attached():
        assert torch.allclose(ours, run(unet, packed), atol=1e-5)
    assert float((ours - plain).abs().max()) > 1e-2
    assert torch.equal(run(unet, E), plain)


def test_keys_may_be_made_of_other_encodings_than_values(unet: nn.Module) -> None:
    """As under a global lock: they are those of another prompt, unedited."""
    bank = bank_of(unet)
    E, K = encodings(bank), noise(2, 77, bank.width, seed=9)
    rest, G, thin, packed = edit_of(bank, E, 2)
    with bank.attached(thin):
        ours = run(unet, thin.given((rest, G), (K, 0 * G)))
    packed[..., bank.key_columns] = K @ bank.W[bank.key_columns].T
    with bank.attached():
        assert torch.allclose(ours, run(unet, packed), atol=1e-5)


def unedited(bank: Bank, E: Tensor) -> tuple[Thin, Tensor]:
    nothing = Thin(torch.zeros(0, bank.emitted_width))
    closed = E.new_zeros(*E.shape[:-1], 0)
    return nothing, nothing.given((E, closed), (E, closed))


def with_lora(unet: Any) -> None:
    """A LoRA that is not merged, on all that reads text and more."""
    torch.manual_seed(5)
    for name, seed in (("one", 6), ("two", 7)):
        torch.manual_seed(seed)
        config = LoraConfig(r=2, target_modules=["to_k", "to_v", "to_q"], init_lora_weights=False)
        unet.add_adapter(config, name)
    unet.set_adapters(["one"], [1.0])


def test_without_concepts_it_is_whatever_the_model_is_to_the_last_bit(unet: Any) -> None:
    """Its LoRAs are asked as ever: their scale at a call, the choice of adapters, the format, within it."""
    with_lora(unet)
    bank = bank_of(unet)
    E = encodings(bank)

    def answers() -> Iterator[tuple[dict[str, Any], torch.dtype]]:
        yield {}, torch.float32
        yield {"cross_attention_kwargs": {"scale": 0.25}}, torch.float32
        unet.set_adapters(["one", "two"], [0.3, -1.5])
        yield {}, torch.float32
        unet.disable_adapters()
        yield {}, torch.float32
        unet.enable_adapters()
        unet.to(torch.bfloat16)
        yield {}, torch.bfloat16

    fresh = copy.deepcopy(unet)
    expected = [run(unet, E.to(dtype), **how) for how, dtype in answers()]
    unet = fresh
    bank = bank_of(unet)
    thin, given = unedited(bank, E)
    with bank.attached(thin):
        ours = [run(unet, given.to(dtype), **how) for how, dtype in answers()]
    assert all(torch.equal(one, other) for one, other in zip(ours, expected, strict=True))
    for number, one in enumerate(ours[:-1]):
        assert not any(torch.equal(one, other) for other in ours[number + 1 : -1])


def test_what_is_no_plain_layer_is_edited_as_if_it_were_merged(unet: Any) -> None:
    merged = copy.deepcopy(unet)
    with_lora(unet)
    with_lora(merged)
    merged.fuse_lora()
    for module in list(merged.modules()):  # what `unload_lora_weights` leaves
        for name, child in list(module.named_children()):
            if hasattr(child, "base_layer"):
                setattr(module, name, child.base_layer)
    bank, other = bank_of(unet), bank_of(merged)
    assert not bank.is_plain
    assert other.is_plain
    E = encodings(bank)
    assert torch.allclose(bank.emitted(E), other.emitted(E), atol=1e-5)
    rest, G, thin, packed = edit_of(other, E, 2)
    with bank.attached(thin):
        ours = run(unet, thin.given((rest, G), (rest, G)))
    with other.attached():
        assert torch.allclose(ours, run(merged, packed), atol=1e-5)
    for asked in (lambda: bank.W, lambda: bank.attached().__enter__()):
        with pytest.raises(PerfError, match="`to_k` is a Linear of peft, not a plain linear layer"):
            asked()


class InIntegers(nn.Module):
    """A layer that is quantised as perf does not know: of whole numbers, and a scale of each row."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scale = linear.weight.abs().amax(1, keepdim=True) / 127
        self.weight = nn.Parameter((linear.weight / scale).round().to(torch.int8), requires_grad=False)
        self.bias = linear.bias
        self.register_buffer("scale", scale)

    @property
    def dense(self) -> Tensor:
        return self.weight.float() * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.dense, self.bias)


def test_layers_of_integers_are_edited_as_the_numbers_that_they_stand_for(unet: nn.Module) -> None:
    with_biases(unet)
    dense = copy.deepcopy(unet)
    for attention, twin in zip(cross_attentions(unet), cross_attentions(dense), strict=True):
        for name in ("to_k", "to_v"):
            setattr(attention.module, name, InIntegers(getattr(attention.module, name)))
            getattr(twin.module, name).weight = nn.Parameter(getattr(attention.module, name).dense)
    bank, other = bank_of(unet), bank_of(dense.requires_grad_(False))
    E = encodings(bank)
    assert not bank.is_plain
    assert torch.allclose(bank.emitted(E), other.emitted(E), atol=1e-5)
    rest, G, thin, packed = edit_of(other, E, 2)
    with bank.attached(thin), other.attached():
        assert torch.allclose(run(unet, thin.given((rest, G), (rest, G))), run(dense, packed), atol=1e-5)


def test_in_half_precision_it_rounds_as_the_model_does(unet: nn.Module) -> None:
    """The truth is the edited model in float64."""
    bank = bank_of(unet)
    E = encodings(bank)
    rest, G, thin, packed = edit_of(bank, E, 2)
    exact = copy.deepcopy(unet).double()
    with bank_of(exact).attached():
        truth = run(exact, packed.double())
    half = unet.to(torch.bfloat16)
    with bank_of(half).attached(thin):
        ours = run(half, thin.given((rest, G), (rest, G)).bfloat16())
    with bank_of(half).attached():
        other = run(half, packed.bfloat16())
    errors = [float((one.double() - truth).norm() / truth.norm()) for one in (ours, other)]
    assert ours.dtype == torch.bfloat16
    assert 1e-4 < errors[0] < 1.5 * errors[1] < 0.1


def test_adapters_act_where_their_gate_is_open(unet: nn.Module) -> None:
    """One of two factors and one of a whole weight, on some tokens; in packed they are added by hand."""
    bank = bank_of(unet)
    E, layer = encodings(bank), bank.layers[1]
    rest, G, thin, packed = edit_of(bank, E, 1)
    width = layer.value_slice.stop - layer.value_slice.start
    factored = Change(noise(2, bank.width, seed=5), noise(width, 2, seed=6))
    whole = Change(weight=noise(width, bank.width, seed=7))
    changes = ({f"{layer.path}.to_v": factored}, 0.5), ({f"{layer.path}.to_k": whole}, -0.2)
    thin = Thin(thin.outputs, changes)
    there = (torch.arange(77) % 5 == 0).float().expand(2, -1)[..., None]
    gates = torch.cat([G, there, torch.ones_like(there)], -1)
    with bank.attached(thin):
        ours = run(unet, thin.given((rest, gates), (rest, gates)))
    packed[..., layer.value_slice] += 0.5 * there * factored.linear(rest)
    packed[..., layer.key_slice] -= 0.2 * whole.linear(rest)
    with bank.attached():
        theirs = run(unet, packed)
    assert torch.allclose(ours, theirs, atol=1e-5)
    with bank.attached(Thin(thin.outputs)):
        without = run(unet, Thin(thin.outputs).given((rest, G), (rest, G)))
    assert not torch.allclose(ours, without, atol=1e-3)


def test_gates_come_in_few_widths_and_marks_begin_behind_them(unet: nn.Module) -> None:
    bank = bank_of(unet)
    widths = {J: Thin(torch.zeros(J, bank.emitted_width)).gates for J in (0, 1, 4, 5, 8, 9, 16, 17, 33)}
    assert widths == {0: 4, 1: 4, 4: 4, 5: 8, 8: 8, 9: 16, 16: 16, 17: 32, 33: 48}
    E = encodings(bank)
    rest, G, thin, _ = edit_of(bank, E, 2)
    given = thin.given((rest, G), (rest, G))
    assert given.shape[-1] == bank.columns(thin) == thin.columns(bank.width)
    assert bank.columns() == bank.emitted_width
    focus = (torch.arange(77) == 3).float()[None, :, None].expand(2, -1, -1)
    with bank.attached(thin):
        for attention in cross_attentions(unet):
            for name in ("to_k", "to_v"):
                seen = getattr(attention.module, name).marks(marked(given, focus), 1)
                assert torch.equal(seen, focus)
        with pytest.raises(PerfError, match="is another prompt"):
            run(unet, E)
        with pytest.raises(PerfError, match="attached to this model already"):
            bank_of(unet)


@torch.no_grad()
def test_a_compiled_model_has_one_graph_for_any_composition_of_so_many(built: nn.Module) -> None:
    """Whatever concepts there are, how often it is attached, and at whichever time it is asked."""
    unet, graphs = copy.deepcopy(built), []
    torch._dynamo.reset()

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    bank, counts, E = bank_of(unet), [], encodings(bank_of(unet))
    compiled: Any = torch.compile(unet, backend=count)
    for J in (1, 3, 0, 4, 2, 5):
        rest, G, thin, _ = edit_of(bank, E, J, seed=J)
        with bank.attached(thin):
            given = thin.given((rest, G), (rest, G))
            answers = [run(one, given) for one in (compiled, unet)]
            assert torch.equal(*answers)
        counts.append(len(graphs))
    assert counts == [1, 1, 1, 1, 1, 2]


def test_prompts_of_two_edits_are_not_joined() -> None:
    one, other = (Conditioning(torch.zeros(1, 3, 80), thin=Thin(torch.zeros(0, 5))) for _ in range(2))
    assert Conditioning.joined([one, one]).thin is one.thin
    assert one.rows([0]).repeated(2).to(torch.device("cpu")).form == "thin"
    with pytest.raises(ValueError, match="different edits"):
        Conditioning.joined([one, other])
