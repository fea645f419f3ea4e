"""The change of a weight, against LyCORIS' own modules in fp64."""

from __future__ import annotations

import pytest
import torch
from lycoris.modules.norms import NormModule
from torch import nn

from perfusion_registry.adapters.adapter import Adapter, adapters_of, artifact_tensors, kind_of, rank_of
from perfusion_registry.adapters.difference import bias_difference, difference
from perfusion_registry.adapters.shapes import mistake
from tests.adapters.samples import KINDS, LAYERS, difference_of, file_tensors, layer_of, lycoris_of

CASES = [
    (kind, layer)
    for kind, (_, options) in KINDS.items()
    for layer in LAYERS
    if layer == "3x3" or not options.get("use_tucker")
]


def adapter(tensors: dict[str, torch.Tensor], alpha: float | None) -> Adapter:
    named = {name.removesuffix(".weight"): tensor for name, tensor in tensors.items() if name != "alpha"}
    kind = kind_of(named)
    assert kind is not None
    return Adapter("denoiser", "conv_in", kind, named, alpha)


@pytest.mark.parametrize(("kind", "layer"), CASES)
def test_it_is_lycoris_to_a_millionth(kind: str, layer: str) -> None:
    torch.manual_seed(0)
    module = layer_of(LAYERS[layer])
    theirs = lycoris_of(kind, module)
    tensors = file_tensors(theirs)
    alpha = float(tensors["alpha"]) if "alpha" in tensors else None
    ours = adapter(tensors, alpha)
    shapes = {name: tuple(tensor.shape) for name, tensor in ours.tensors.items()}
    assert mistake(ours.kind, shapes, LAYERS[layer]) is None
    weight, wanted = module.weight.detach(), difference_of(theirs, module)
    assert wanted.abs().max() > 0.01
    assert difference(ours, weight) == pytest.approx(wanted, abs=1e-9)
    (back,) = adapters_of(artifact_tensors([ours]))
    assert difference(back, weight) == pytest.approx(wanted, abs=1e-6)
    in_fp32 = difference(ours, weight.float())
    assert in_fp32.dtype == torch.float32
    assert (in_fp32 - wanted).abs().max() < 1e-6 * max(1, wanted.abs().max(), weight.abs().max())
    if kind != "lokr, whole" and alpha is not None:
        plain = {name: tensor for name, tensor in ours.tensors.items() if name != "dora_scale"}
        one = Adapter(ours.component, ours.module, ours.kind, plain, alpha)
        unsaid = Adapter(ours.component, ours.module, ours.kind, plain)
        scale = 1.5 / 3
        assert difference(one, weight) == pytest.approx(scale * difference(unsaid, weight), abs=1e-12)


def test_a_norm_and_a_bias_change_too() -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(8)
    theirs = NormModule("adapter", norm, 1.0)
    theirs.w_norm.data, theirs.b_norm.data = torch.randn(8), torch.randn(8)
    ours = adapter({"diff": theirs.w_norm.detach(), "diff_b": theirs.b_norm.detach()}, None)
    inputs = torch.randn(5, 8)
    bias = bias_difference(ours)
    assert bias is not None
    wanted = nn.functional.layer_norm(
        inputs, (8,), norm.weight + difference(ours, norm.weight.detach()), norm.bias + bias
    )
    assert torch.allclose(theirs(inputs), wanted, atol=1e-5)
    assert bias_difference(adapter({"diff": theirs.w_norm.detach()}, None)) is None


def test_a_linear_layer_takes_the_factors_of_a_1x1_convolution_and_the_other_way_round() -> None:
    torch.manual_seed(0)
    down, up = torch.randn(3, 24), torch.randn(32, 3)
    flat = adapter({"lora_down": down, "lora_up": up}, None)
    deep = adapter({"lora_down": down[..., None, None], "lora_up": up[..., None, None]}, None)
    for shape in ((32, 24), (32, 24, 1, 1)):
        for one in (flat, deep):
            assert torch.equal(difference(one, torch.zeros(shape)).reshape(32, 24), up @ down)
            shapes = {name: tuple(tensor.shape) for name, tensor in one.tensors.items()}
            assert mistake("lora", shapes, shape) is None


def test_onetrainer_flattens_the_kernel_of_a_lokr() -> None:
    torch.manual_seed(0)
    module = layer_of(LAYERS["3x3"])
    theirs = lycoris_of("lokr", module)
    tensors = file_tensors(theirs)
    tensors["lokr_w2_b"] = tensors["lokr_w2_b"].flatten(1)
    ours = adapter(tensors, float(tensors["alpha"]))
    assert (
        mistake("lokr", {name: tuple(one.shape) for name, one in ours.tensors.items()}, LAYERS["3x3"]) is None
    )
    assert difference(ours, module.weight.detach()) == pytest.approx(difference_of(theirs, module), abs=1e-9)


def test_a_magnitude_of_outputs_may_be_a_plain_row() -> None:
    """As peft has it."""
    torch.manual_seed(0)
    module = layer_of(LAYERS["3x3"])
    theirs = lycoris_of("dora", module)
    tensors = {**file_tensors(theirs), "dora_scale": file_tensors(theirs)["dora_scale"].flatten()}
    ours = adapter(tensors, float(tensors["alpha"]))
    assert difference(ours, module.weight.detach()) == pytest.approx(difference_of(theirs, module), abs=1e-9)


WRONG = (
    ("lora", {"lora_down": (3, 24)}, "`lora_up` is missing"),
    ("lora", {"lora_down": (3, 24), "lora_up": (32, 4)}, "`lora_up` 32x4 and `lora_down` 3x24 do not"),
    ("lora", {"lora_down": (3, 25), "lora_up": (32, 3)}, "the change has the shape 32x25"),
    ("lora", {"lora_down": (24,), "lora_up": (32, 3)}, "do not multiply"),
    ("lora", {"lora_down": (0, 24), "lora_up": (32, 0)}, "do not multiply"),
    ("loha", {"hada_w1_a": (32, 3), "hada_w1_b": (3, 24), "hada_w2_a": (32, 3)}, "`hada_w2_b` is missing"),
    ("lokr", {"lokr_w1": (4, 4)}, "`lokr_w2` is missing"),
    ("lokr", {"lokr_w1": (4, 4), "lokr_w2": (8, 5)}, "the change has the shape 32x20"),
    ("lokr", {"lokr_w1": (4, 4), "lokr_w2_a": (8, 3)}, "`lokr_w2_b` is missing"),
    ("full", {"diff": (32, 23)}, "the change has the shape 32x23"),
    ("lora", {"lora_down": (3, 24), "lora_up": (32, 3), "dora_scale": (31,)}, "`dora_scale` has the shape"),
    ("lora", {"lora_down": (3, 24), "lora_up": (32, 3), "diff_b": (31,)}, "the change of the bias has 31"),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "shapes", "told"), WRONG)
def test_shapes_that_do_not_fit_are_told(kind: str, shapes: dict[str, tuple[int, ...]], told: str) -> None:
    assert told in str(mistake(kind, shapes, (32, 24)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "layer"), CASES)
def test_what_passes_by_its_shapes_can_be_computed_and_nothing_else(kind: str, layer: str) -> None:
    """Each tensor of each kind with one side changed, or gone: the check by shapes says what torch would."""
    torch.manual_seed(0)
    module = layer_of(LAYERS[layer])
    tensors = file_tensors(lycoris_of(kind, module))
    whole = adapter(tensors, None)
    weight = module.weight.detach()
    for name, tensor in whole.tensors.items():
        for side in range(tensor.ndim):
            longer = torch.cat([tensor, tensor.narrow(side, 0, 1)], side)
            changed = {**whole.tensors, name: longer}
            shapes = {key: tuple(one.shape) for key, one in changed.items()}
            if mistake(whole.kind, shapes, LAYERS[layer]) is None:
                difference(Adapter("denoiser", "conv_in", whole.kind, changed), weight)
    assert rank_of({name: tuple(one.shape) for name, one in whole.tensors.items()}) in (3, None)
