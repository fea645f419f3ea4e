"""Bases with a transformer go all the way, each against its own stock pipeline in diffusers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import perfusion_registry as perf
from perfusion_registry import edit
from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base, ConceptPiece, describe_base, load_base, wrap
from perfusion_registry.build import ConceptSources, Covariance, build_concept, estimate_covariance
from perfusion_registry.compose import explain
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.packing import pack, thin
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.methods.perfusion.tensors import offsets
from perfusion_registry.methods.residuals.tensors import residual_of
from perfusion_registry.render import RenderRequest, native_values, render
from perfusion_registry.render.start import StartImage
from tests.forms import apart
from tests.transformer_bases import HOW, KINDS, Kind

CAPTIONS = ["a photo of a teddy", "a cat in the snow", "a teapot on a table", "a red boat at sea"]
TEXTS = ["a photo of a teddy", "A Teapot, in the SNOW!! zxq", ""]
FAST = TrainOptions(
    steps=3, batch=2, validate_every=3, validation_steps=2, validation_prompts=("a {} in the snow",),
    learning_rate_output=1.0, learning_rate_embedding=0.1, residual_rank=0.2, mask="attention",
)  # fmt: skip


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(kind: Kind, shared: Callable[..., Path]) -> Path:
    return shared(f"tiny-{kind.name}", kind.save)


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(describe_base(str(folder)), device="cpu", dtype="float32", compute_dtype="float32")


@pytest.fixture(scope="module")
def covariance(base: Base) -> Covariance:
    return estimate_covariance(base, CAPTIONS * 10)


@pytest.fixture(scope="module")
def artifacts(
    base: Base, covariance: Covariance, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    """Two concepts of noise."""
    built = {}
    for seed, name in enumerate(("teddy", "teapot")):
        noise = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        photo = tmp_path_factory.mktemp("photos") / "1.png"
        Image.fromarray(noise).save(photo)
        sources, options = (
            ConceptSources(name, "1.0.0", name, (photo,)),
            FAST.model_copy(update={"seed": seed}),
        )
        made = build_concept(base, covariance, sources, options, RenderOptions(), digest="ab" * 32)
        built[name] = load_artifact(save_artifact(made))
    return built


def composed(base: Base, artifacts: dict[str, Artifact], prompt: str, **gate: float | str) -> Composition:
    concepts = {name: Concept(artifact, "0" * 64, Gate()) for name, artifact in artifacts.items()}
    parsed = parse_prompt(prompt)
    gates = {name: Gate(**{"residual": 0.0} | gate) for name in parsed.names}
    return compose(parsed, concepts, base, SettingSources(command=gates))


def drawn(base: Base, composition: Composition, artifacts: dict[str, Artifact], negative: str) -> np.ndarray:
    request = RenderRequest(**HOW, scheduler=type(base.pipe.scheduler).__name__, negative_prompt=negative)
    ((picture),) = render(base, composition, request, artifacts)
    return np.asarray(picture.image).astype(int)


def own_embeddings(base: Base, artifact: Artifact) -> list[Tensor]:
    names = ["embedding", "embedding.2"][: len(base.embedding_tables)]
    return [artifact.tensors[name] for name in names]


def test_it_is_known_by_its_parts(base: Base, kind: Kind, folder: Path) -> None:
    assert base.description.architecture == kind.name
    assert (base.bank.width, base.picture_size) == (kind.d, (64, 64))
    assert [int(table.weight.shape[1]) for table in base.embedding_tables] == list(kind.widths)
    assert wrap(base.pipe).description.family == base.description.family
    assert native_values(base)["scheduler"] in {"ddim", kind.scheduler}


def test_what_a_prompt_is_encoded_to_is_the_pipelines_own_bit_for_bit(base: Base, kind: Kind) -> None:
    for text in TEXTS:
        ours = base.encode([base.tokenise([text] if text else [])])
        theirs = kind.encoded(base, text)
        there = ours.mask[0]  # type: ignore[index]
        assert torch.equal(ours.states[0, there], theirs[0, : ours.states.shape[1]][there])
        assert int(there.sum()) == base.tokenise_captions([text])[0].length


def test_an_embedding_of_each_table_is_what_runs(base: Base) -> None:
    """A T5 names another module than the one that reads its table."""
    row, other = (base.tokenise(["a ", ConceptPiece(word), " on a chair"]) for word in ("teddy", "teapot"))
    own = [
        table.weight[ids[places[0]]].detach().clone().requires_grad_()
        for table, ids, places in zip(base.embedding_tables, other.ids, other.places[0], strict=True)
    ]
    edited, swapped = base.encode([row], {(0, 0): own}), base.encode([other])
    assert torch.equal(edited.states, swapped.states)
    assert not torch.equal(edited.states, base.encode([row]).states)
    edited.states[0, 0].square().sum().backward()
    assert all(float(embedding.grad.abs().sum()) > 0 for embedding in own)  # type: ignore[union-attr]


def test_the_covariance_is_that_of_what_the_layers_read(
    base: Base, kind: Kind, covariance: Covariance
) -> None:
    total, count = torch.zeros(kind.d, kind.d, dtype=torch.float64), 0
    for text in CAPTIONS:
        length = base.tokenise_captions([text])[0].length
        e = kind.encoded(base, text)[0, :length].double()
        total, count = total + e.T @ e, count + length
    assert torch.allclose(covariance.C, total / count, rtol=1e-4, atol=1e-6)
    assert covariance.card.padding == "none"


@torch.no_grad()
def test_packed_and_unedited_it_is_the_network_itself(base: Base, kind: Kind) -> None:
    x = torch.randn(2, base.denoiser.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    texts = ["a teddy on a chair", ""]
    expected = kind.ask(base, x, 0.3, texts)
    encoded = base.encode([base.tokenise([text] if text else []) for text in texts])
    t = torch.tensor([base.objective.time(0.3)] * 2)
    with base.exclusive():
        assert torch.allclose(base.denoise(x, t, encoded), expected, atol=1e-5)
    with base.attached():
        packed = encoded.with_states(encoded.states @ base.bank.W.T)
        assert torch.allclose(base.denoise(x, t, packed), expected, atol=1e-5)
    assert torch.equal(kind.ask(base, x, 0.3, texts), expected)


def test_an_unedited_picture_is_the_stock_pipelines_bit_for_bit(base: Base, kind: Kind) -> None:
    for negative in ("", "a blue hat"):
        ours = drawn(base, composed(base, {}, "A teddy in the snow"), {}, negative)
        assert np.array_equal(ours, kind.stock(base, "A teddy in the snow", negative))


class Emits(nn.Module):
    """Emits what was worked out by hand, a part of it for each row that comes in."""

    def __init__(self, given: Tensor, rows: Sequence[int]) -> None:
        super().__init__()
        self.given, self.rows, self.calls = given, rows, 0

    def forward(self, context: Tensor) -> Tensor:
        if len(context) == len(self.rows):
            return self.given[list(self.rows)]
        row = self.rows[self.calls % len(self.rows)]
        self.calls += 1
        return self.given[[row]]


@pytest.mark.parametrize("lock", ["local", "global"])
@pytest.mark.parametrize("called", [("teddy",), ("teddy", "teapot")])
def test_a_picture_is_the_pipelines_with_every_projection_edited_by_hand(
    base: Base,
    kind: Kind,
    artifacts: dict[str, Artifact],
    covariance: Covariance,
    lock: str,
    called: tuple[str, ...],
) -> None:
    """Eq. 4 as sums, in a copy whose projections know both prompts and their padding."""
    names = " and a ".join(f"{name}*" for name in called)
    composition = composed(base, artifacts, f"a {names} in the snow", key_lock=lock)
    picture = drawn(base, composition, artifacts, "a blue hat")
    pieces: list[str | ConceptPiece] = []
    for name in called:
        pieces += [" and a " if pieces else "a ", ConceptPiece(name)]
    prompts = [base.tokenise(["a blue hat"]), base.tokenise([*pieces, " in the snow"])]
    own = {(1, number): own_embeddings(base, artifacts[name]) for number, name in enumerate(called)}
    with torch.no_grad():
        encoded, plain = base.encode(prompts, own), base.encode(prompts)
    E, there = encoded.states.double(), encoded.mask[..., None]  # type: ignore[index]
    inputs = torch.stack([artifacts[name].tensors["target_input"].double() for name in called])
    inverse = torch.linalg.inv(CovarianceMetric(covariance.C).C)
    products = inputs @ inverse @ inputs.T  # of every two inputs
    similarity = E @ inverse @ inputs.T / products.diagonal()
    bias, temperature = composition.concepts[0].render.bias, composition.concepts[0].render.temperature
    gate = torch.sigmoid((similarity - bias) / temperature) * there
    rest = E - (E @ inverse @ inputs.T @ torch.linalg.inv(products) @ inputs) * there
    twin, starts = copy.deepcopy(base.denoiser), [start_of(base, name) for name in called]
    for layer in base.bank.layers:
        attention = twin.get_submodule(layer.path)
        for side in ("to_k", "to_v"):
            linear = getattr(attention, side)
            weight = linear.weight.detach().double()
            outputs = torch.stack([weight @ start for start in starts])
            if side == "to_v":
                learned = [offsets(artifacts[name].tensors)[layer.path].double() for name in called]
                outputs = outputs + torch.stack(learned)
            edited = rest @ weight.T + gate @ outputs
            if lock == "global" and side == "to_k":
                edited = plain.states.double() @ weight.T
            edited = edited if linear.bias is None else edited + linear.bias
            setattr(attention, side, Emits(edited.detach().float(), kind.order))
    text = f"a {names} in the snow".replace("*", "")
    expected = kind.stock(base, text, "a blue hat", twin)
    assert np.abs(picture - expected).max() <= 1
    assert np.abs(picture - kind.stock(base, text, "a blue hat")).max() > 8


def start_of(base: Base, word: str) -> Tensor:
    """What K and V read of a word in "a photo of a ...", in fp64."""
    row = base.tokenise(["a photo of a ", ConceptPiece(word)])
    with torch.no_grad():
        return base.encode([row]).states[0, row.concept_positions[0]].double()


@torch.no_grad()
def test_no_gate_opens_at_padding(base: Base, artifacts: dict[str, Artifact]) -> None:
    composition = composed(base, artifacts, "a teddy* and a teapot* in the snow")
    packed = pack(base, composition, artifacts)
    prompt = base.tokenise(["a ", ConceptPiece("teddy"), " and a ", ConceptPiece("teapot"), " in the snow"])
    own = {(0, number): own_embeddings(base, artifact) for number, artifact in enumerate(artifacts.values())}
    encoded = base.encode([prompt], own)
    padding = ~encoded.mask  # type: ignore[operator]
    assert int(padding.sum()) == len(prompt) - prompt.length > 0
    unedited = encoded.states @ base.bank.W.T
    assert torch.allclose(packed.states[padding], unedited[padding], atol=1e-6)
    assert not torch.allclose(packed.states[~padding], unedited[~padding], atol=1e-2)
    told = explain(base, composition, artifacts).tokens
    assert [token.word for token in told[:5]] == ["a", "teddy", "and", "a", "teapot"]
    assert (told[-1].word, told[-1].gate, told[-1].removed) == (
        "<padding>",
        {"teddy": 0.0, "teapot": 0.0},
        0.0,
    )


@pytest.mark.parametrize("lock", ["local", "global"])
def test_the_thin_form_says_what_packed_says(base: Base, artifacts: dict[str, Artifact], lock: str) -> None:
    """Padding has no gate that could open, and its encodings are as they were; with residuals."""
    prompt = "a teddy* and a teapot* in the snow"
    composition = composed(base, artifacts, prompt, key_lock=lock, residual=1.0)
    assert apart(base, composition, artifacts) < 1e-5
    read, packed = thin(base, composition, artifacts), pack(base, composition, artifacts)
    padding, d, gates = ~read.mask, base.bank.width, read.thin.gates  # type: ignore[operator, union-attr]
    assert not read.states[padding][:, d : d + gates].any()
    values = ~base.bank.key_columns
    made = read.states[padding][:, :d] @ base.bank.W[values].T
    assert torch.allclose(made, packed.states[padding][:, values], atol=1e-6)


@torch.no_grad()
def test_a_residual_is_added_where_its_word_is_attended_to(
    base: Base, kind: Kind, artifacts: dict[str, Artifact]
) -> None:
    """In each block by its own attention; by a copy whose output projections are given the sum."""
    composition = composed(base, artifacts, "a teddy* in the snow")
    packed = pack(base, composition, artifacts)
    (at,), J = composition.concepts[0].positions, 16
    marks = torch.zeros(1, packed.states.shape[1], J)
    marks[0, at, 0] = 1
    factors = residual_of(artifacts["teddy"].tensors)
    factors = {path: (down.float(), 50 * up.float()) for path, (down, up) in factors.items()}
    assert set(factors) == {f"transformer_blocks.{k}.attn2.to_out.0" for k in range(2)}
    x = torch.randn(1, base.denoiser.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([base.objective.time(0.5)])
    shown = packed.with_states(torch.cat([packed.states, marks], -1))
    with base.attached([factors]):
        localised = base.denoise(x, t, shown)
    with base.attached([factors], everywhere=True):
        everywhere = base.denoise(x, t, packed)
    seen: dict[str, Tensor] = {}

    def look(path: str) -> Callable[..., None]:
        def watch(attention: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Tensor]) -> None:
            hidden = inputs[0] if inputs else options["hidden_states"]
            heads = attention.heads
            q, k = (
                side.unflatten(-1, (heads, -1)).transpose(1, 2)
                for side in (attention.to_q(hidden), attention.to_k(packed.states))
            )
            q, k = (
                side if norm is None else norm(side)
                for side, norm in ((q, attention.norm_q), (k, attention.norm_k))
            )
            scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            if not kind.looks_at_padding:
                scores = scores.masked_fill(~packed.mask[:, None, None], float("-inf"))  # type: ignore[index]
            seen[path] = scores.softmax(-1).mean(1)[:, :, at, None]

        return watch

    def add(path: str) -> Callable[..., Tensor]:
        down, up = factors[f"{path}.to_out.0"]

        def change(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            return output + edit.localised(seen[path]) * (inputs[0] @ down.T @ up.T)

        return change

    with base.attached():
        handles = []
        for layer in base.cross_attentions:
            handles.append(layer.module.register_forward_pre_hook(look(layer.path), with_kwargs=True))
            handles.append(layer.module.to_out[0].register_forward_hook(add(layer.path)))
        expected = base.denoise(x, t, packed)
        for handle in handles:
            handle.remove()
        plain = base.denoise(x, t, packed)
    assert torch.allclose(localised, expected, atol=1e-5)
    assert not torch.allclose(localised, plain, atol=1e-3)
    assert not torch.allclose(localised, everywhere, atol=1e-3)
    twin = copy.deepcopy([attention.module.to_out[0].weight for attention in base.cross_attentions])
    with base.attached():
        for attention in base.cross_attentions:
            down, up = factors[f"{attention.path}.to_out.0"]
            attention.module.to_out[0].weight += up @ down
        merged = base.denoise(x, t, packed)
        for attention, weight in zip(base.cross_attentions, twin, strict=True):
            attention.module.to_out[0].weight.copy_(weight)
    assert torch.allclose(everywhere, merged, atol=1e-5)


def test_maps_of_a_drawing_are_of_its_prompt_alone(base: Base, artifacts: dict[str, Artifact]) -> None:
    """Whatever the negative prompt is; by the same word of the empty composition, recorded by hand."""
    composition, places = composed(base, artifacts, "a teddy* in the snow"), [1]
    scheduler, maps = type(base.pipe.scheduler).__name__, []
    for guidance in (1.0, 3.0):
        together = guidance > 1 and base.guided_together
        request = RenderRequest(**{**HOW, "steps": 1, "guidance": guidance}, scheduler=scheduler)
        every = 1 if together or guidance == 1 else 2
        with base.recorder([places] * (2 if together else 1), (8, 8), every) as recorder:
            next(render(base, composition, request, artifacts))
        maps.append(recorder.maps()[-1])
    assert torch.allclose(maps[0], maps[1], atol=1e-5)  # the first step begins at the same noise


def test_concepts_in_somebodys_pipeline_are_drawn_as_perf_draws_them(
    base: Base, kind: Kind, artifacts: dict[str, Artifact]
) -> None:
    """With their residuals."""
    concepts = {name: Concept(artifact, "0" * 64, Gate()) for name, artifact in artifacts.items()}
    prompt = "a teddy* and a teapot* in the snow"
    composition = compose(parse_prompt(prompt), concepts, base)
    ours = drawn(base, composition, artifacts, "a blue hat")
    without = drawn(base, composed(base, artifacts, prompt), artifacts, "a blue hat")
    assert np.abs(ours - without).max() > 0
    pipe = copy.copy(base.pipe)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    before = [(name, id(module)) for name, module in base.denoiser.named_modules()]
    blocks = getattr(pipe, "_blocks", None)
    with perf.composed(pipe, prompt, concepts, negative_prompt="a blue hat") as call:
        theirs = np.asarray(kind.called(pipe, call)).astype(int)
    assert np.array_equal(theirs, ours)
    with perf.composed(pipe, "A teddy in the snow", {}) as call:
        assert np.array_equal(kind.called(pipe, call), kind.stock(base, "A teddy in the snow"))
    assert [(name, id(module)) for name, module in base.denoiser.named_modules()] == before
    assert getattr(pipe, "_blocks", None) is blocks


def test_it_draws_from_a_picture_where_its_pipeline_does(
    base: Base, kind: Kind, artifacts: dict[str, Artifact], tmp_path: Path
) -> None:
    noise = np.random.default_rng(7).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    start = StartImage.read(tmp_path / "photo.png", None, 0.5)
    scheduler = type(base.pipe.scheduler).__name__
    request = RenderRequest(**{**HOW, "steps": 4}, scheduler=scheduler, start=start.said)

    def from_it(prompt: str) -> np.ndarray:
        ((picture),) = render(base, composed(base, artifacts, prompt), request, artifacts, start=start)
        return np.asarray(picture.image).astype(int)

    if "image" not in base.draws:
        with pytest.raises(PerfError, match="draws from prompts alone"):
            from_it("a teddy in the snow")
        return
    how = {"image": Image.fromarray(noise), "strength": 0.5, "num_inference_steps": 4}
    expected = kind.drawn(base, base.denoiser, "a teddy in the snow", "", **how)
    assert np.array_equal(from_it("a teddy in the snow"), np.asarray(expected))
    assert not np.array_equal(from_it("a teddy* in the snow"), np.asarray(expected))


def test_what_it_cannot_draw_is_told(base: Base, artifacts: dict[str, Artifact]) -> None:
    composition = composed(base, artifacts, "a teddy*")
    how = {**HOW, "width": 72, "scheduler": type(base.pipe.scheduler).__name__}
    with pytest.raises(PerfError, match="72 is not a multiple of 16, the pixels that one patch of latents"):
        next(render(base, composition, RenderRequest(**how), artifacts))
    with pytest.raises(PerfError, match="no pipeline for 'inpaint'"):
        base.pipeline("inpaint")


def test_in_half_precision_text_is_read_in_full(base: Base, folder: Path) -> None:
    half = load_base(describe_base(str(folder)), device="cpu", dtype="bfloat16", compute_dtype="bfloat16")
    rows = [half.tokenise(["a photo of a ", ConceptPiece("teddy")])]
    ours, full = half.encode(rows).states, base.encode(rows).states
    assert ours.dtype == torch.float32
    assert float((ours - full).norm() / full.norm()) < 0.02
    x = torch.zeros(1, half.denoiser.config.in_channels, 8, 8)
    with half.attached():
        packed = half.encode(rows).with_states(ours @ half.bank.W.T)
        assert half.denoise(x, torch.tensor([half.objective.time(0.5)]), packed).isfinite().all()
