"""Imported LoRAs as they are drawn: everywhere as diffusers draws them, gated and localised by their laws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from perfusion_registry.base import Base, Conditioning, describe_base, load_base
from perfusion_registry.base.regions import Regions
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.focusing import residuals
from perfusion_registry.compose.packing import pack
from perfusion_registry.errors import PerfError
from perfusion_registry.reporter import Silent
from tests.compose import samples
from tests.forms import answered as answered_in
from tests.lora_files import save_lora
from tests.methods import imported
from tests.sdxl import save_shallow_sdxl
from tests.tiny import state_of

CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "proj_in", "ff.net.2")


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def base(request: pytest.FixtureRequest, tiny_base_folder: Path, shared: Callable[..., Path]) -> Base:
    folder = tiny_base_folder if request.param == "sd" else shared("shallow-sdxl", save_shallow_sdxl)
    return load_base(describe_base(str(folder)), "cpu", "float32", "float32")


def concept(
    base: Base, folder: Path, name: str, kind: str | None, word: str | None = None, **how: Any
) -> Concept:
    """A LoRA with random numbers, imported, and kept as an artifact keeps it."""
    file = save_lora(base.pipe, folder / f"{name}.safetensors", **how)
    return imported.concept(base, file, name, kind, word)


def drawn(base: Base, prompt: str, concepts: Mapping[str, Concept], steps: int = 3) -> Any:
    return imported.drawn(base, prompt, concepts, steps)


def stock(base: Base, prompt: str, files: Mapping[Path, float], steps: int = 3) -> Any:
    """What diffusers draws with these files, each as strong."""
    pipe = base.pipeline("text", scheduler="DDIMScheduler")
    assert isinstance(pipe.scheduler, DDIMScheduler)
    names = [f"a{number}" for number in range(len(files))]
    for name, file in zip(names, files, strict=True):
        pipe.load_lora_weights(str(file), adapter_name=name)
    pipe.set_adapters(names, [*files.values()])
    try:
        result = pipe(
            prompt,
            num_inference_steps=steps,
            guidance_scale=base.description.card.render["guidance"],
            width=64,
            height=64,
            generator=[torch.Generator().manual_seed(3)],
        )
    finally:
        pipe.unload_lora_weights()
    return np.asarray(result.images[0], int)


def packed(base: Base, prompt: str, concepts: Mapping[str, Concept]) -> tuple[Composition, Tensor]:
    composition = compose(parse_prompt(prompt), concepts, base)
    artifacts = {name: one.artifact for name, one in concepts.items()}
    return composition, pack(base, composition, artifacts).states[0]


def test_everywhere_is_what_diffusers_draws(base: Base, tmp_path: Path) -> None:
    kitty = concept(base, tmp_path, "kitty", "cat", "sks cat", parts=("to_q", "to_k", "to_v", *CONVOLUTIONS))
    style = concept(base, tmp_path, "crayon", None, seed=1)
    concepts = {"kitty": kitty, "crayon": style}
    file, other = tmp_path / "kitty.safetensors", tmp_path / "crayon.safetensors"
    words = "a sks cat in the snow"
    plain, before = drawn(base, words, {}), state_of(base)
    one = drawn(base, "a kitty* in the snow", concepts)
    assert np.abs(one - stock(base, words, {file: 1.0})).max() <= 1
    weak = drawn(base, "a kitty*{strength=.5} in the snow", concepts)
    assert np.abs(weak - stock(base, words, {file: 0.5})).max() <= 1
    # A style says nothing where it has no words, and is beside whatever else there is.
    both = drawn(base, "a kitty* in the snow crayon*{strength=-.5}", concepts)
    assert np.abs(both - stock(base, words, {file: 1.0, other: -0.5})).max() <= 1
    assert min(np.abs(picture - plain).mean() for picture in (one, weak, both)) > 2
    assert np.array_equal(drawn(base, words, {}), plain)
    assert state_of(base) == before


def test_denoiser_and_text_encoder_apart(base: Base, tmp_path: Path) -> None:
    kitty = {"kitty": concept(base, tmp_path, "kitty", "cat", "sks cat")}
    text_alone = concept(base, tmp_path / "t", "kitty", "cat", "sks cat", parts=())
    without_text = concept(base, tmp_path / "d", "kitty", "cat", "sks cat", parts=("to_q",), text=False)
    assert {"denoiser"} == {name.split(".")[0] for name in without_text.artifact.tensors}
    prompt = "a kitty*{strength=0,text_strength=1} in the snow"
    assert np.array_equal(drawn(base, prompt, kitty), drawn(base, prompt, {"kitty": text_alone}))
    file = tmp_path / "t" / "kitty.safetensors"
    ours = drawn(base, "a kitty* in the snow", {"kitty": text_alone})
    assert np.abs(ours - stock(base, "a sks cat in the snow", {file: 1.0})).max() <= 1


def test_words_that_the_base_does_not_know_are_told_of_a_call_too(tiny_base: Base, tmp_path: Path) -> None:
    kitty = {"kitty": concept(tiny_base, tmp_path, "kitty", "cat", "qwertz cat")}
    told: list[str] = []

    class Heard(Silent):
        def warn(self, text: str) -> None:
            told.append(text)

    compose(parse_prompt("a kitty* in the snow"), kitty, tiny_base, reporter=Heard())
    assert any("has never seen qwertz" in text for text in told)


@pytest.mark.parametrize("reach", ["everywhere", "localised", "gated"])
def test_without_strength_it_is_the_plain_word_to_the_bit(base: Base, tmp_path: Path, reach: str) -> None:
    kitty = {"kitty": concept(base, tmp_path, "kitty", "cat", "sks cat")}
    plain = drawn(base, "a cat in the snow", {})
    assert np.array_equal(drawn(base, f"a kitty*{{strength=0,reach={reach}}} in the snow", kitty), plain)
    assert not np.array_equal(drawn(base, f"a kitty*{{reach={reach}}} in the snow", kitty), plain)


def test_gated_it_changes_the_values_of_its_own_words_alone(base: Base, tmp_path: Path) -> None:
    """K is the prompt's with the supercategory throughout; V is that too, but for the concept's words, where
    it is (W + D) e of the changed text encoder."""
    concepts = {"kitty": concept(base, tmp_path, "kitty", "cat", "sks cat")}
    composition, gated = packed(base, "a kitty*{reach=gated} in the snow", concepts)
    own = list(composition.concepts[0].positions)
    W, keys = base.bank.W, base.bank.key_columns
    plain = base.encode([base.tokenise(["a cat in the snow"])]).states[0] @ W.T
    words, after = len(own), len(base.tokenise(["a cat in the snow"]).words) - len(own)
    there = [0, 1, *[2] * words, *range(3, 3 + after)][: len(gated)]  # where each token is without its words
    assert own == [*range(2, 2 + words)]
    rest = [position for position in range(len(there)) if position not in own]
    assert torch.allclose(gated[: len(there)][:, keys], plain[there][:, keys], atol=1e-5)
    assert torch.allclose(gated[rest][:, ~keys], plain[[there[k] for k in rest]][:, ~keys], atol=1e-5)
    _, everywhere = packed(base, "a kitty*{reach=everywhere} in the snow", concepts)
    assert torch.allclose(gated[own][:, ~keys], everywhere[own][:, ~keys], atol=1e-5)
    assert not torch.allclose(everywhere[rest][:, ~keys], gated[rest][:, ~keys], atol=1e-2)


def test_two_are_gated_and_each_stays_in_its_own_words(base: Base, tmp_path: Path) -> None:
    concepts = {
        "kitty": concept(base, tmp_path, "kitty", "cat", "sks cat"),
        "pup": concept(base, tmp_path, "pup", "dog", "sks dog", seed=1),
        "crayon": concept(base, tmp_path, "crayon", None, seed=2, text=False),
    }
    composition, two = packed(base, "a kitty* beside a pup*", concepts)
    assert [c.render.model_dump()["reach"] for c in composition.concepts] == ["gated", "gated"]
    (kitty, pup), keys = composition.concepts, base.bank.key_columns
    # Without one of them, the other is what it is beside it.
    _, one = packed(base, "a kitty*{reach=gated} beside a pup*{strength=0}", concepts)
    at = list(kitty.positions)
    assert torch.allclose(two[at][:, keys], one[at][:, keys], atol=1e-5)
    assert set(kitty.positions).isdisjoint(pup.positions)
    # A style is no company: it applies everywhere, and a concept beside it too.
    alone = compose(parse_prompt("a kitty*, crayon*"), concepts, base)
    assert [c.render.model_dump()["reach"] for c in alone.concepts] == ["everywhere", "everywhere"]
    assert drawn(base, "a kitty* beside a pup*, crayon*", concepts).shape == (64, 64, 3)


def test_beside_a_concept_of_perfusion_with_a_residual(tiny_base: Base, tmp_path: Path) -> None:
    """What the edit makes of its own word is what it makes beside the plain word; the module that a residual
    is added to may have an adapter too."""
    parts = ("to_q", "to_k", "to_v", "proj_out", "ff.net.0.proj")
    bear = samples.concept(samples.artifact(tiny_base, "bear", "teddy", 1, rank=0.2))
    concepts = {"kitty": concept(tiny_base, tmp_path, "kitty", "cat", "sks cat", parts=parts), "bear": bear}
    plain = drawn(tiny_base, "a cat beside a bear*", {"bear": bear})
    assert np.array_equal(drawn(tiny_base, "a kitty*{strength=0} beside a bear*", concepts), plain)
    before = state_of(tiny_base)
    pictures = [
        drawn(tiny_base, f"a kitty*{{reach={reach}}} beside a bear*", concepts)
        for reach in ("everywhere", "localised", "gated")
    ]
    assert all(np.abs(picture - plain).mean() > 1 for picture in pictures)
    assert state_of(tiny_base) == before
    alone, edited = packed(tiny_base, "a cat beside a bear*", {"bear": bear})
    both, gated = packed(tiny_base, "a kitty* beside a bear*", concepts)
    at = [one.concept("bear").positions[0] for one in (alone, both)]
    assert at[0] != at[1]
    assert torch.allclose(edited[at[0]], gated[at[1]], atol=1e-4)


def answered(
    base: Base, prompt: str, concepts: Mapping[str, Concept], times: tuple[int, ...] = (950,)
) -> Tensor:
    """What the denoiser says of the same latents at the last of these times, called at each of them."""
    composition = compose(parse_prompt(prompt), concepts, base)
    prompts, artifacts = [composition.parsed, parse_prompt("")], {n: c.artifact for n, c in concepts.items()}
    extra = residuals(base, composition, artifacts)
    both = Conditioning.joined(extra.marked(pack(base, composition, artifacts, prompts), prompts))
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), base.attached(extra.factors, adaptation=extra.adaptation):
        return [base.denoise(x, torch.tensor(time), both) for time in times][-1]


@pytest.mark.parametrize("reach", ["everywhere", "localised", "gated"])
def test_the_thin_form_says_what_packed_says(base: Base, tmp_path: Path, reach: str) -> None:
    """Of two in one prompt, whose first phase has them as plain words, and with no negative prompt too."""
    parts = ("attn1.to_q", "attn2.to_k", "attn2.to_v", "ff.net.2", "conv1")
    concepts = {
        name: concept(base, tmp_path, name, kind, f"sks {kind}", parts=parts, seed=seed)
        for seed, (name, kind) in enumerate((("kitty", "cat"), ("bello", "dog")))
    }
    artifacts = {name: one.artifact for name, one in concepts.items()}
    called = (f"kitty*{{reach={reach},strength=.7}}", "bello*{reach=everywhere}")
    composition = compose(parse_prompt(f"a {called[0]} beside a {called[1]}"), concepts, base)
    packed = answered_in(base, composition, artifacts, "packed", negative="")
    thin = answered_in(base, composition, artifacts, "thin", negative="")
    torch.testing.assert_close(thin, packed, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("reach", ["localised", "gated"])
def test_it_changes_nothing_before_its_region_is_found(base: Base, tmp_path: Path, reach: str) -> None:
    """One step of great noise finds the region, and draws what the base draws of the plain words, whatever a
    concept changes, brings and is called; another concept in the prompt stays as it is."""
    parts = ("attn1.to_q", "attn2.to_k", "attn2.to_v", "ff.net.2", "conv1")
    concepts = {"kitty": concept(base, tmp_path, "kitty", "cat", "sks zwx furry cat", parts=parts)}
    local = f"a kitty*{{reach={reach},strength=2}} in the snow"
    plain = answered(base, "a cat in the snow", {})
    torch.testing.assert_close(answered(base, local, concepts), plain, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(answered(base, local, concepts, (950, 500)), plain, atol=1e-2)
    assert not torch.allclose(answered(base, "a kitty*{strength=2} in the snow", concepts), plain, atol=1e-2)
    with pytest.raises(PerfError, match="'kitty' is drawn where it is found, which takes two steps"):
        drawn(base, local, concepts, steps=1)
    assert np.abs(drawn(base, local, concepts) - drawn(base, "a cat in the snow", {})).max() > 4
    long = ", ".join(["a very big red house on a hill"] * 9)  # which takes another chunk with its words alone
    concepts["kitty"] = concept(base, tmp_path, "kitty", "cat", "sks " * 12 + "cat", parts=parts)
    assert drawn(base, f"{long}, a kitty*{{reach={reach}}}", concepts).shape == (64, 64, 3)


def test_a_region_is_where_a_word_is_attended_to_and_no_two_overlap(base: Base) -> None:
    """Found from marks beside packed, at all sizes, in the samples that call somebody; fixed afterwards.
    While they are found, the denoiser reads the prompt of the first phase, and then the other."""
    prompts = ["a cat beside a dog", ""]
    tokens = [base.tokenise([text]) for text in prompts]
    at = [tokens[0].words.index("cat"), tokens[0].words.index("dog")]
    encoded = base.encode(tokens)
    marks = torch.zeros(2, encoded.states.shape[1], 16)
    marks[0, at[0], 0] = marks[0, at[1], 1] = 1
    searched = encoded.states @ base.bank.W.T
    prompt = base.encode([base.tokenise([text]) for text in ("a bird in the sky", "")]).states @ base.bank.W.T
    columns_of = [prompt, marks.roll(1, 1), searched, marks]
    if encoded.pooled is not None:
        columns_of.append(encoded.pooled[:, None].expand(-1, marks.shape[1], -1))
    read = encoded.with_states(torch.cat(columns_of, -1))
    columns = slice(len(base.bank.W), len(base.bank.W) + 2)
    regions = Regions(len(base.bank.W) + 16, columns, base.noise_steps)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), base.attached(), regions.attached(base.denoiser, base.cross_attentions):
        found = base.denoise(x, torch.tensor(950), read)
        assert regions.mask(x, 0) is None
        drawn = base.denoise(x, torch.tensor(500), read)
        assert regions.rows is not None
        assert regions.rows.tolist() == [0]
        both = [regions.mask(x, number) for number in (0, 1)]
        first, second = (mask for mask in both if mask is not None)
        assert first.shape == (1, 1, 8, 8)
        assert float((first * second).max()) == 0
        assert 0 < float(first.mean()) < 1
        tokens_of_layer = regions.mask(torch.zeros(2, 16, 5), 0)
        assert tokens_of_layer is not None
        assert tokens_of_layer.shape == (1, 16, 1)
        assert regions.mask(torch.zeros(2, 5), 0) is None  # a time embedding has no places
        base.denoise(x.flip(-1), torch.tensor(300), read)
        again = regions.mask(x, 0)
        assert again is not None
        assert torch.equal(first, again)
        base.denoise(x, torch.tensor(400), read)  # other pictures begin
        assert regions.mask(x, 0) is None
    with torch.no_grad(), base.attached():
        alone = [
            base.denoise(x, torch.tensor(t), read.with_states(h)) for t, h in ((950, searched), (500, prompt))
        ]
    assert torch.allclose(found, alone[0], atol=1e-5)
    assert torch.allclose(drawn, alone[1], atol=1e-5)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("crayon*{reach=gated}", "'crayon' is a style, so it cannot be gated"),
        ("a kitty*{reach=left}", "'left' is no reach"),
        ("a kitty*{strength=99}", "a strength should be less than or equal to 10"),
        ("a kitty*{bias=.5}", "'bias' is no option of kitty"),
    ],
)
def test_what_cannot_be_is_told_under_the_call(base: Base, tmp_path: Path, prompt: str, said: str) -> None:
    concepts = {
        "kitty": concept(base, tmp_path, "kitty", "cat"),
        "crayon": concept(base, tmp_path, "crayon", None),
    }
    with pytest.raises(PerfError, match=said) as caught:
        compose(parse_prompt(prompt), concepts, base)
    assert "^" in str(caught.value.where)
