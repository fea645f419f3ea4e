"""SDXL goes all the way: two text encoders, a pooled vector, sizes, and an unwanted branch of zeros."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base, ConceptPiece, Conditioning, describe_base, load_base, wrap
from perfusion_registry.build import ConceptSources, Covariance, build_concept, estimate_covariance
from perfusion_registry.build.framing import sizes_of, square
from perfusion_registry.compose import explain
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.contributing import targets
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.render import RenderRequest, render
from tests.sdxl import save_tiny_sdxl

PROMPTS = ["a photo of a teddy", "A Teapot, in the SNOW!! zxq", "a " * 100]
CAPTIONS = ["a photo of a teddy", "a cat in the snow", "a teapot on a table", "a red boat at sea"]
FAST = TrainOptions(
    steps=3, batch=2, validate_every=3, validation_steps=2, validation_prompts=("a {} in the snow",),
    learning_rate_output=1.0, learning_rate_embedding=0.1, residual_rank=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(shared: Callable[..., Path]) -> Path:
    return shared("tiny-sdxl", save_tiny_sdxl)


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(describe_base(str(folder)), device="cpu", dtype="float32", compute_dtype="float32")


@pytest.fixture(scope="module")
def covariance(base: Base) -> Covariance:
    return estimate_covariance(base, CAPTIONS * 10)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wider than high, so that it is cropped."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 160, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photos") / "1.png"
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture(scope="module")
def built(base: Base, covariance: Covariance, photo: Path) -> Artifact:
    sources = ConceptSources("teddy", "1.0.0", "teddy", (photo,))
    artifact = build_concept(base, covariance, sources, FAST, RenderOptions(), digest="ab" * 32)
    return load_artifact(save_artifact(artifact))


def composed(base: Base, built: Artifact, prompt: str, lock: str = "local") -> Composition:
    gates = SettingSources(command={"teddy": Gate(key_lock=lock, residual=0.0)} if "*" in prompt else {})
    return compose(parse_prompt(prompt), {"teddy": Concept(built, "0" * 64, Gate())}, base, gates)


def drawn(base: Base, composition: Composition, artifacts: dict[str, Artifact], negative: str) -> np.ndarray:
    how = {"seeds": (5,), "steps": 2, "guidance": 3.0, "width": 64, "height": 64, "scheduler": "euler"}
    ((picture,)) = render(base, composition, RenderRequest(**how, negative_prompt=negative), artifacts)
    return np.asarray(picture.image).astype(int)


def stock(base: Base, **inputs: Any) -> np.ndarray:
    """What the pipeline alone draws."""
    pipe = copy.copy(base.pipe)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(5)]
    result = pipe(
        num_inference_steps=2, guidance_scale=3.0, width=64, height=64, generator=generator, **inputs
    )
    return np.asarray(result.images[0]).astype(int)


def test_it_is_known_by_its_parts_and_is_one_family_however_it_is_opened(base: Base, folder: Path) -> None:
    assert base.description.architecture == "sdxl"
    assert base.bank.W.shape[1] == 80
    assert wrap(base.pipe).description.family == base.description.family
    halves = copy.copy(base.pipe)
    halves.text_encoder, halves.text_encoder_2 = (
        copy.deepcopy(encoder).half() for encoder in (halves.text_encoder, halves.text_encoder_2)
    )
    assert wrap(halves).description.family == base.description.family
    with torch.no_grad():
        halves.text_encoder_2.get_input_embeddings().weight[0] += 1
    assert wrap(halves).description.family != base.description.family


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("unet", {"cross_attention_dim": 32}), "it reads 32 numbers of each token, and gets 32 \\+ 48"),
        (("text_encoder", {"hidden_size": "wide"}), "it reads 80 numbers of each token, and gets 0 \\+ 48"),
        (("text_encoder_2", {"projection_dim": [48]}), "it reads 96 numbers of the prompt .* gets 0 \\+ 48"),
        (("unet", {"addition_time_embed_dim": "x"}), "it reads 96 numbers of the prompt .* gets 48 \\+ 0"),
        (("text_encoder_2", {"projection_dim": 40}), "it reads 96 numbers of the prompt .* gets 40 \\+ 48"),
        (("unet", {"in_channels": 8}), "takes 8 channels and a latent has 4"),
        (("unet", {"addition_embed_type": "image"}), "also takes more than its text"),
    ],
)
def test_parts_that_do_not_fit_are_told(folder: Path, tmp_path: Path, change: Any, said: str) -> None:
    copied = shutil.copytree(folder, tmp_path / "base")
    part, values = change
    path = copied / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(PerfError, match=said):
        describe_base(str(copied))


def test_encodings_are_the_pipelines_own_bit_for_bit(base: Base) -> None:
    for prompt in PROMPTS:
        ours = base.encode([base.tokenise([prompt], whole=False)])
        states, _, pooled, _ = base.pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
        assert torch.equal(ours.states, states)
        assert torch.equal(ours.pooled, pooled)
    together = base.encode([base.tokenise([prompt], whole=False) for prompt in PROMPTS])
    assert torch.equal(
        together.states, base.pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False)[0]
    )


def test_an_embedding_of_each_encoder_reaches_the_states_and_never_the_pooled_vector(base: Base) -> None:
    prompt = base.tokenise(["a ", ConceptPiece("teddy"), " on a chair"])
    other = base.tokenise(["a ", ConceptPiece("teapot"), " on a chair"])
    (at,) = prompt.concept_positions
    own = [
        table.weight[ids[at]].clone().requires_grad_()
        for table, ids in zip(base.embedding_tables, other.ids, strict=True)
    ]
    edited, plain, swapped = base.encode([prompt], {(0, 0): own}), base.encode([prompt]), base.encode([other])
    assert torch.equal(edited.states, swapped.states)
    assert torch.equal(edited.pooled, plain.pooled)
    assert not torch.equal(plain.pooled, swapped.pooled)
    edited.states[0, -1].square().sum().backward()
    assert all(float(embedding.grad.abs().sum()) > 0 for embedding in own)


def test_the_covariance_is_that_of_both_encoders_states_before_their_last_layer(base: Base) -> None:
    covariance = estimate_covariance(base, CAPTIONS, padding="none")
    total, count = torch.zeros(80, 80, dtype=torch.float64), 0
    for text in CAPTIONS:
        states = []
        for encoder, tokenizer in zip(
            base.text_encoders, (base.pipe.tokenizer, base.pipe.tokenizer_2), strict=True
        ):
            seen: list[Tensor] = []
            (last,) = [m for name, m in encoder.named_modules() if name.endswith("layers.2")]
            hook = last.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
            with torch.no_grad():
                encoder(tokenizer(text, return_tensors="pt").input_ids)
            hook.remove()
            states.append(seen[0])
        e = torch.cat(states, -1)[0].double()
        total, count = total + e.T @ e, count + len(e)
    assert torch.allclose(covariance.C, total / count, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_packed_and_unedited_it_is_the_network_itself(base: Base) -> None:
    x, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([300, 700])
    encoded = base.encode([base.tokenise(["a teddy on a chair"]), base.tokenise([])])
    sizes = torch.tensor([[96.0, 160, 0, 21, 64, 64], [64, 64, 0, 0, 64, 64]])
    told = {"text_embeds": encoded.pooled, "time_ids": sizes}
    expected = base.pipe.unet(x, t, encoded.states, added_cond_kwargs=told).sample
    packed = encoded.with_states(encoded.states @ base.bank.W.T)
    with base.attached():
        assert torch.allclose(base.denoise(x, t, packed.with_sizes(sizes)), expected, atol=1e-5)
        assert not torch.allclose(base.denoise(x, t, packed)[0], expected[0], atol=1e-5)
        assert torch.allclose(base.denoise(x, t, packed)[1], expected[1], atol=1e-5)  # whole pictures
    with base.exclusive():
        assert torch.equal(base.denoise(x, t, encoded.with_sizes(sizes)), expected)


def test_sizes_are_those_of_the_crop() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 255  # the middle
    image = Image.fromarray(pixels)
    assert sizes_of(image, (50, 50)) == (100, 300, 0, 50, 50, 50)
    assert float(square(image, (50, 50)).mean()) > 0.99
    assert sizes_of(image.transpose(Image.Transpose.ROTATE_90), (50, 50)) == (300, 100, 50, 0, 50, 50)
    assert sizes_of(image, (100, 300)) == (100, 300, 0, 0, 100, 300)


def test_training_tells_the_denoiser_how_its_picture_was_cropped(
    base: Base, covariance: Covariance, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    answer = type(base).answer

    def seen(self: Base, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        if x.requires_grad or torch.is_grad_enabled():
            told.append(conditioning.sizes)
        return answer(self, x, t, conditioning)

    monkeypatch.setattr(type(base), "answer", seen)
    sources = ConceptSources("teddy", "1.0.0", "teddy", (photo,))
    options = FAST.model_copy(update={"steps": 1, "validate_every": 1})
    build_concept(base, covariance, sources, options, RenderOptions(), digest="ab" * 32)
    assert [sizes.tolist() for sizes in told] == [[[96, 160, 0, 21, 64, 64]] * 2]


def test_a_concept_is_two_embeddings_and_an_input_of_both_widths(base: Base, built: Artifact) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in built.tensors.items()}
    assert (shapes["embedding"], shapes["embedding.2"], shapes["target_input"]) == ((32,), (48,), (80,))
    assert built.card.architecture == "sdxl"
    rows = base.tokenise([ConceptPiece("teddy")]).ids
    for name, table, row in zip(("embedding", "embedding.2"), base.embedding_tables, rows, strict=True):
        assert not torch.equal(built.tensors[name], table.weight[row[1]])


@pytest.mark.parametrize("lock", ["local", "global"])
@pytest.mark.parametrize("negative", ["", "a blue hat"])
def test_a_picture_is_the_pipelines_with_every_projection_edited_by_hand(
    base: Base, built: Artifact, covariance: Covariance, lock: str, negative: str
) -> None:
    """Eq. 4 as two sums for one concept, by hooks on the stock pipeline's own projections. Without a negative
    prompt its unwanted branch is the pipeline's zeros, which have no gate."""
    composition = composed(base, built, "a teddy* in the snow", lock)
    picture = drawn(base, composition, {"teddy": built}, negative)
    pieces = [negative] if negative else [], ["a ", ConceptPiece("teddy"), " in the snow"]
    prompts = [base.tokenise(text) for text in pieces]
    own = {(1, 0): [built.tensors["embedding"], built.tensors["embedding.2"]]}
    with torch.no_grad():
        E, E_plain = base.encode(prompts, own).states, base.encode(prompts).states
    i = built.tensors["target_input"]
    v = CovarianceMetric(covariance.C).dual(i)
    every, (concept,) = targets(base, composition, {"teddy": built}), composition.concepts
    similarity = E @ v / (i @ v)
    gate = torch.sigmoid((similarity - concept.render.bias) / concept.render.temperature)
    if not negative:
        E, E_plain, similarity, gate = (
            x * torch.tensor([0.0, 1.0]).view(2, *[1] * (x.ndim - 1)) for x in (E, E_plain, similarity, gate)
        )
    handles = []
    for layer in base.bank.layers:
        attention = base.pipe.unet.get_submodule(layer.path)
        for side, columns in (("to_k", layer.key_slice), ("to_v", layer.value_slice)):
            linear = getattr(attention, side)
            edited = E @ linear.weight.T - similarity[..., None] * (linear.weight @ i)
            edited = edited + gate[..., None] * every.O[0, columns]
            if lock == "global" and side == "to_k":
                edited = E_plain @ linear.weight.T
            handles.append(linear.register_forward_hook(lambda m, inputs, output, edited=edited: edited))
    texts = {"prompt": "a teddy in the snow", "negative_prompt": negative or None}
    try:
        expected = stock(base, **texts)
    finally:
        for handle in handles:
            handle.remove()
    assert np.abs(picture - expected).max() <= 1
    assert np.abs(picture - stock(base, **texts)).max() > 8
    assert np.array_equal(
        drawn(base, composed(base, built, "a teddy in the snow"), {}, negative), stock(base, **texts)
    )


def test_its_gates_are_explained(base: Base, built: Artifact) -> None:
    told = explain(base, composed(base, built, "a teddy* in the snow"), {"teddy": built})
    assert [token.word for token in told.tokens] == [
        "<start>",
        "a",
        "teddy",
        "in",
        "the",
        "snow",
        "<end>",
        "<padding>",
    ]
    row = base.tokenise(["a ", ConceptPiece("teddy"), " in the snow"])
    own = {(0, 0): [built.tensors["embedding"], built.tensors["embedding.2"]]}
    i, v = built.tensors["target_input"], built.tensors["target_input_dual"]
    with torch.no_grad():
        similarity = base.encode([row], own).states[0, :6] @ v / (i @ v)
    assert [token.similarity["teddy"] for token in told.tokens[:6]] == pytest.approx(
        similarity.tolist(), abs=1e-4
    )
