"""Custom Diffusion: its number of parameters, a step beside stock modules, its compression and its merge."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from perfusion_registry.artifact import Artifact, ConceptCard
from perfusion_registry.base import Base
from perfusion_registry.build.latents import encode_latents
from perfusion_registry.build.training import TrainInputs, step_loss
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.methods.custom_diffusion.options import Built, DrawOptions, TrainOptions
from perfusion_registry.methods.custom_diffusion.training import compressed
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.table import find_method
from tests.forms import apart
from tests.methods.test_papers_residuals import SD_1

METHOD = find_method("custom-diffusion")
WORD = "teapot"  # one token of the tiny base, which nothing else in the prompts has
OPTIONS = TrainOptions(token=WORD, batch=1, prior_pictures=0, templates=("a photo of a {}",))


def metric_of(base: Base) -> CovarianceMetric:
    captions = torch.randn(200, base.bank.W.shape[1], generator=torch.Generator().manual_seed(5))
    return CovarianceMetric(captions.double().T @ captions.double() / 200)


def inputs_on(base: Base, options: TrainOptions = OPTIONS, word: str = "teddy") -> TrainInputs:
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = encode_latents(base, pixels, torch.ones(1, 1, 64, 64), flip=False)
    call = METHOD.call(options, word)
    prompts = Prompts.of(base, options.templates, word, call=call)
    return TrainInputs(base, word, metric_of(base), prompts, latents, options, METHOD.trainable, call=call)


def test_there_are_as_many_numbers_on_stable_diffusion_as_the_papers_say() -> None:
    """19 million: K and V of cross-attention, and a token embedding."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD_1)
    weights = [
        weight for name, weight in unet.named_parameters() if "attn2.to_k" in name or "attn2.to_v" in name
    ]
    assert sum(weight.numel() for weight in weights) + 768 == 19_170_048


def test_a_step_is_the_gradient_of_a_stock_unet_with_other_keys_and_values(tiny_base: Base) -> None:
    inputs = inputs_on(tiny_base)
    state = inputs.begin()
    parameters = state.concept.parameters
    noise = torch.Generator().manual_seed(3)
    parameters["change"].data = 0.05 * torch.randn(parameters["change"].shape, generator=noise)
    dice = torch.Generator()
    dice.set_state(state.generator.get_state())
    with tiny_base.attached():
        loss = step_loss(inputs, state)
        loss.backward()

    pipe, latents = tiny_base.pipe, inputs.latents
    for size in (1, 1):
        torch.randint(size, (1,), generator=dice)
    t = torch.randint(1000, (1,), generator=dice)
    shape = latents.mean.shape
    z = latents.mean + latents.std * torch.randn(shape, generator=dice)
    eps = torch.randn(shape, generator=dice)
    weights = {}
    for layer in tiny_base.bank.layers:
        for name, rows in (("to_k", layer.key_slice), ("to_v", layer.value_slice)):
            own = pipe.unet.get_submodule(f"{layer.path}.{name}").weight
            changed = own.detach() + parameters["change"].detach()[rows]
            weights[f"{layer.path}.{name}.weight"] = changed.requires_grad_()
    ids = pipe.tokenizer(f"a photo of a {WORD} teddy", padding="max_length", return_tensors="pt").input_ids
    (own_id,) = pipe.tokenizer(WORD, add_special_tokens=False).input_ids
    (key,) = [name for name, _ in pipe.text_encoder.named_parameters() if "token_embedding" in name]
    table = tiny_base.embedding_tables[0].weight.detach()
    row = table[own_id].clone().requires_grad_()
    rows_of = torch.where((torch.arange(len(table)) == own_id)[:, None], row, table)
    E = torch.func.functional_call(pipe.text_encoder, {key: rows_of}, (ids,)).last_hidden_state
    noisy = pipe.scheduler.add_noise(z, eps, t)
    answer = torch.func.functional_call(pipe.unet, weights, (noisy, t, E)).sample
    by_hand = (answer - eps).square().mean()
    by_hand.backward()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)

    def near(mine: Tensor | None, theirs: Tensor | None) -> bool:
        assert mine is not None
        assert theirs is not None
        return float(theirs.norm()) > 0 and float((mine - theirs).norm() / theirs.norm()) < 1e-3

    assert near(parameters["embedding"].grad, row.grad)
    gradient = parameters["change"].grad
    assert gradient is not None
    for layer in tiny_base.bank.layers:
        for name, rows in (("to_k", layer.key_slice), ("to_v", layer.value_slice)):
            assert near(gradient[rows], weights[f"{layer.path}.{name}.weight"].grad)


def test_compressed_it_keeps_the_share_that_is_asked_for() -> None:
    change = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(change)
    for share in (0.1, 0.6, 0.95):
        total, kept = 0.0, 0
        for value in values.tolist():  # as the authors' script counts
            total += value / float(values.sum())
            if total > share:
                break
            kept += 1
        down, up = compressed(change, share)
        assert len(down) == max(kept, 1)
        left = torch.linalg.matrix_norm(change - up @ down)
        assert float(left) == pytest.approx(float(values[len(down) :].norm()), rel=1e-4)


def concept(base: Base, name: str, word: str, seed: int, *, share: float = 1.0) -> Concept:
    """A concept of random changes, as a training of this word would leave it."""
    options = OPTIONS.model_copy(update={"compressed": share})
    state = inputs_on(base, options, word).begin()
    noise = torch.Generator().manual_seed(seed)
    tensors = {key: value.detach().clone() for key, value in state.concept.state.items()}
    tensors["change"] = 0.1 * torch.randn(tensors["change"].shape, generator=noise)
    tensors["embedding"] = tensors["embedding"] + 0.1 * torch.randn(
        tensors["embedding"].shape, generator=noise
    )
    call = METHOD.call(options, word)
    assert call is not None
    description = base.description
    card = ConceptCard(
        name=name,
        version="1.0.0",
        method=METHOD.name,
        supercategory=word,
        word=call.words,
        family=description.family,
        base=description.repo,
        train=options,
        render=DrawOptions(),
        built=Built(step=1, covariance="c"),
    )
    return Concept(Artifact(card, state.concept.tensors(tensors)), "0" * 64)


def packed(base: Base, prompt: str, **concepts: Concept) -> tuple[Tensor, dict[str, list[int]]]:
    composition = compose(parse_prompt(prompt), concepts, base)
    artifacts = {name: one.artifact for name, one in concepts.items()}
    positions = {one.name: list(one.positions) for one in composition.concepts}
    return pack(base, composition, artifacts).states[0], positions


def test_merged_its_words_are_what_was_learned_and_all_else_hardly_changes(tiny_base: Base) -> None:
    one = concept(tiny_base, "oak", "teddy", 1)
    prompt = "a photo of a oak*{reach=%s}"
    everywhere, at = packed(tiny_base, prompt % "everywhere", oak=one)
    merged, _ = packed(tiny_base, prompt % "merged", oak=one)
    none, _ = packed(tiny_base, "a photo of a oak*{reach=everywhere,strength=0}", oak=one)
    assert torch.allclose(merged[at["oak"]], everywhere[at["oak"]], atol=1e-3)
    start = 0  # the start token reads nothing of the concept
    assert float((merged[start] - none[start]).norm()) < float((everywhere[start] - none[start]).norm())


def test_merged_or_not_the_thin_form_says_what_packed_says(tiny_base: Base) -> None:
    two = {"oak": concept(tiny_base, "oak", "teddy", 1), "elm": concept(tiny_base, "elm", "boat", 2)}
    artifacts = {name: one.artifact for name, one in two.items()}
    for prompt in ("an oak* beside an elm*", "an oak*{reach=everywhere} beside an elm*{strength=.5}"):
        composition = compose(parse_prompt(prompt), two, tiny_base)
        assert apart(tiny_base, composition, artifacts) < 1e-5


def test_two_are_merged_so_that_each_has_its_own(tiny_base: Base) -> None:
    """Each concept's own encodings, which both artifacts have, come to what it learned alone."""
    from perfusion_registry.compose.contributing import contributions

    two = {"oak": concept(tiny_base, "oak", "teddy", 1), "elm": concept(tiny_base, "elm", "boat", 2)}
    composition = compose(parse_prompt("an oak* beside an elm*"), two, tiny_base)
    assert {one.render.reach for one in composition.concepts} == {"merged"}
    artifacts = {name: one.artifact for name, one in two.items()}
    brought = contributions(tiny_base, composition, artifacts)
    adapters = brought["oak"].adapters
    assert adapters is not None
    assert brought["elm"].adapters is None
    for one in artifacts.values():
        inputs = one.tensors["merge_input"]
        for path, change in adapters.denoiser.items():
            wanted = inputs @ one.tensors[f"denoiser.{path}.diff"].float().T
            assert torch.allclose(change.linear(inputs), wanted, atol=2e-3)


def test_a_compressed_one_is_drawn_too(tiny_base: Base) -> None:
    whole = concept(tiny_base, "oak", "teddy", 1)
    small = concept(tiny_base, "oak", "teddy", 1, share=0.6)
    assert METHOD.tensor_mistake(OPTIONS, small.artifact.tensors) is None
    size = {
        one: sum(tensor.numel() for tensor in which.artifact.tensors.values())
        for one, which in (("whole", whole), ("small", small))
    }
    assert size["small"] < size["whole"]
    a, _ = packed(tiny_base, "a photo of a oak*", oak=whole)
    b, _ = packed(tiny_base, "a photo of a oak*", oak=small)
    plain, _ = packed(tiny_base, "a photo of a oak*{strength=0}", oak=whole)
    assert 0 < float((a - b).norm()) < float((a - plain).norm())
