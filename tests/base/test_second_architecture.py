"""An architecture that another distribution brings goes all the way: covariance, build, compose, render."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base, ConceptPiece, describe_base, load_base, wrap
from perfusion_registry.base.architectures import ENTRY_POINTS, every_architecture
from perfusion_registry.build import ConceptSources, Covariance, build_concept, estimate_covariance
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.contributing import targets
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.methods.perfusion.tensors import offsets
from perfusion_registry.methods.residuals import options as residuals
from perfusion_registry.render import RenderRequest, native_values, render
from tests.distribution import install
from tests.second_architecture import Loaded, save_second_base

CAPTIONS = [
    "a photo of a teddy",
    "a cat in the snow",
    "a teapot on a table",
    "a painting of a red boat at sea",
]
FAST = TrainOptions(
    steps=3, batch=2, validate_every=3, validation_steps=2, validation_prompts=("a {} in the snow",),
    learning_rate_output=1.0, learning_rate_embedding=0.1,
)  # fmt: skip
NAMED = "tests.second_architecture:ARCHITECTURE"
SCHEDULER = "FlowMatchEulerDiscreteScheduler"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("second")
    with pytest.MonkeyPatch.context() as patch:
        site = folder / "site"
        install(site, "perf-sana", "perf_sana", "", {"sana-with-two-encoders": NAMED}, group=ENTRY_POINTS)
        patch.syspath_prepend(site)
        described = describe_base(str(save_second_base(folder / "base")))
        return load_base(described, device="cpu", dtype="float32", compute_dtype="float32")


@pytest.fixture(scope="module")
def covariance(base: Base) -> Covariance:
    return estimate_covariance(base, CAPTIONS * 20)


@pytest.fixture(scope="module")
def built(base: Base, covariance: Covariance, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "1.png")
    sources = ConceptSources("teddy", "1.0.0", "teddy", (folder / "1.png",))
    artifact = build_concept(base, covariance, sources, FAST, RenderOptions(), digest="ab" * 32)
    return load_artifact(save_artifact(artifact))


def composed(base: Base, built: Artifact, prompt: str, lock: str = "local") -> Composition:
    gates = SettingSources(command={"teddy": Gate(key_lock=lock)} if "*" in prompt else {})
    return compose(parse_prompt(prompt), {"teddy": Concept(built, "0" * 64, Gate())}, base, gates)


def drawn(base: Base, composition: Composition, artifacts: dict[str, Artifact]) -> np.ndarray:
    how = {"seeds": (5,), "steps": 2, "guidance": 3.0, "width": 64, "height": 64, "scheduler": SCHEDULER}
    request = RenderRequest(**how, negative_prompt="blue hat")
    ((picture),) = render(base, composition, request, artifacts)
    return np.asarray(picture.image)


def stock(base: Base, transformer: nn.Module | None = None, **inputs: object) -> np.ndarray:
    """What the pipeline alone draws."""
    pipe = copy.copy(base.pipe)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    if transformer is not None:
        pipe.transformer = transformer
    generator = [torch.Generator().manual_seed(5)]
    result = pipe(
        num_inference_steps=2, guidance_scale=3.0, width=64, height=64, generator=generator, **inputs
    )
    return np.asarray(result.images[0])


def test_it_is_known_by_its_entry_point_alone(base: Base) -> None:
    assert isinstance(base, Loaded)
    assert base.description.architecture == "sana-with-two-encoders"
    assert "sana-with-two-encoders" not in [known.name for known in every_architecture()]
    with pytest.raises(PerfError, match="SanaWithTwoEncoders cannot carry"):
        describe_base(str(base.description.folder))
    with pytest.raises(PerfError, match="TextPipeline cannot carry concepts"):
        wrap(base.pipe)


def test_the_covariance_is_that_behind_the_caption_projection_of_what_is_looked_at(
    base: Base, covariance: Covariance
) -> None:
    transformer, total, count = base.pipe.transformer, torch.zeros(32, 32, dtype=torch.float64), 0
    for text in CAPTIONS:
        ids = base.pipe.tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            raw = torch.cat([encoder(ids)[0] for encoder in base.encoders], -1)
            e = transformer.caption_norm(transformer.caption_projection(raw))[0].double()
        total, count = total + e.T @ e, count + len(e)
    assert torch.allclose(covariance.C, total / count, rtol=1e-4, atol=1e-6)
    assert covariance.card.padding == "none"


@torch.no_grad()
def test_packed_and_unedited_it_is_the_network_itself(base: Base) -> None:
    prompts = [base.tokenise(["a teddy on a chair"]), base.tokenise([])]
    x, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([300.0, 700.0])
    raw, mask = base.raw(prompts)
    expected = base.pipe.transformer(x, raw, timestep=t, encoder_attention_mask=mask).sample
    encoded = base.encode(prompts)
    with base.exclusive():
        assert torch.equal(base.denoise(x, t, encoded), expected)
    with base.attached():
        packed = encoded.with_states(encoded.states @ base.bank.W.T)
        assert torch.allclose(base.denoise(x, t, packed), expected, atol=1e-5)
    assert torch.equal(
        base.pipe.transformer(x, raw, timestep=t, encoder_attention_mask=mask).sample, expected
    )


@torch.no_grad()
def test_maps_follow_the_mask_and_the_norms(base: Base) -> None:
    prompts = [base.tokenise(["a teddy on a chair"])]
    x, seen = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), []

    def look(attention: nn.Module, inputs: object, options: dict[str, Tensor]) -> None:
        hidden = inputs[0] if inputs else options["hidden_states"]
        q, k = attention.norm_q(attention.to_q(hidden)), attention.norm_k(attention.to_k(states))
        heads = [slice(16 * h, 16 * h + 16) for h in range(2)]
        scores = [(q[..., h] @ k[..., h].transpose(1, 2) / 4)[..., :7] for h in heads]  # 7 tokens are real
        seen.append(sum(s.softmax(-1)[..., 2] for s in scores) / 2)

    states = base.encode(prompts).states
    hooks = [a.module.register_forward_pre_hook(look, with_kwargs=True) for a in base.cross_attentions]
    with base.exclusive(), base.recorder([[2]], (8, 8)) as recorder:
        base.denoise(x, torch.tensor([500.0]), base.encode(prompts))
    for hook in hooks:
        hook.remove()
    assert torch.allclose(recorder.maps()[0].flatten(), (sum(seen) / len(seen))[0], atol=1e-5)


def test_a_concept_learns_an_embedding_for_each_encoder(base: Base, built: Artifact) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in built.tensors.items()}
    assert (shapes["embedding"], shapes["embedding.2"], shapes["target_input"]) == ((32,), (16,), (32,))
    ids = base.tokenise([ConceptPiece("teddy")]).ids
    for name, table, row in zip(("embedding", "embedding.2"), base.embedding_tables, ids, strict=True):
        assert not torch.equal(built.tensors[name], table.weight[row[1]])
    assert set(offsets(built.tensors)) == {layer.path for layer in base.bank.layers}


@pytest.mark.parametrize("lock", ["local", "global"])
def test_a_picture_is_the_pipelines_with_every_projection_edited_by_hand(
    base: Base, built: Artifact, covariance: Covariance, lock: str
) -> None:
    """Eq. 4 as two sums for one concept, in a copy whose projections know the prompt and its padding."""
    composition = composed(base, built, "a teddy* in the snow", lock)
    picture = drawn(base, composition, {"teddy": built})
    texts = ["blue hat"], ["a ", ConceptPiece("teddy"), " in the snow"]
    prompts = [base.tokenise(text) for text in texts]
    own = {(1, 0): [built.tensors["embedding"], built.tensors["embedding.2"]]}
    raw, mask = base.raw(prompts, own)
    with torch.no_grad():
        E, E_plain = base.bank.projected(raw), base.bank.projected(base.raw(prompts)[0])
    i = built.tensors["target_input"]
    v = CovarianceMetric(covariance.C).dual(i)
    every, (concept,) = targets(base, composition, {"teddy": built}), composition.concepts
    similarity = E @ v / (i @ v)
    gate = torch.sigmoid((similarity - concept.render.bias) / concept.render.temperature)
    twin = copy.deepcopy(base.pipe.transformer)
    for layer in base.bank.layers:
        attention = twin.get_submodule(layer.path)
        for side, columns in (("to_k", layer.key_slice), ("to_v", layer.value_slice)):
            linear = getattr(attention, side)
            with torch.no_grad():
                edited = E @ linear.weight.T - similarity[..., None] * (linear.weight @ i)
                edited = edited + gate[..., None] * every.O[0, columns] + linear.bias
                if lock == "global" and side == "to_k":
                    edited = linear(E_plain)
            setattr(attention, side, Emits(edited))
    masks = {"prompt_attention_mask": mask[1:], "negative_prompt_attention_mask": mask[:1]}
    embeds = {"prompt_embeds": raw[1:], "negative_prompt_embeds": raw[:1]}
    more = {"negative_prompt": None, "use_resolution_binning": False}
    expected = stock(base, twin, **embeds, **masks, **more)
    assert np.abs(picture.astype(int) - expected.astype(int)).max() <= 1
    plain = drawn(base, composed(base, built, "a teddy in the snow"), {})
    assert np.abs(picture.astype(int) - plain.astype(int)).max() > 8
    unedited = stock(base, **base.plain_inputs(["a teddy in the snow"], ["blue hat"]))
    assert np.array_equal(plain, unedited)


class Emits(nn.Module):
    """Emits what was worked out by hand, whatever comes in."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given = given

    def forward(self, context: Tensor) -> Tensor:
        return self.given


def test_its_own_scheduler_is_the_default(base: Base, tiny_base: Base) -> None:
    assert native_values(base)["scheduler"] == SCHEDULER
    assert native_values(tiny_base) == {"width": 64, "height": 64, "scheduler": "ddim"}


def test_what_it_has_not_is_told(base: Base, covariance: Covariance, built: Artifact, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "1.png")
    sources = ConceptSources("teddy", "1.0.0", "teddy", (tmp_path / "1.png",))
    options = FAST.model_copy(update={"residual_rank": 0.1})
    with pytest.raises(PerfError, match="residual"):
        build_concept(base, covariance, sources, options, RenderOptions(), digest="ab" * 32)
    alone = replace(sources, method="residuals")
    with pytest.raises(PerfError, match="no transformer blocks that 'teddy' could learn a residual for"):
        build_concept(base, None, alone, residuals.TrainOptions(), residuals.DrawOptions(), digest="ab" * 32)
    with pytest.raises(PerfError, match="no pipeline for 'inpaint'"):
        base.pipeline("inpaint")
    with pytest.raises(PerfError, match="no form as DDIMScheduler"):
        base.scheduler("DDIMScheduler")
    assert pack(base, composed(base, built, "a teddy*"), {"teddy": built}).mask is not None
