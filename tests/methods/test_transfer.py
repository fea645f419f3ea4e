"""Transferring a concept to a base of another family: laws, and the edit in the new base in float64."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.artifact.card import ConceptCard
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.build import Covariance
from perfusion_registry.build.covariance import CovarianceCard
from perfusion_registry.build.transfer import needs_base, transfer
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import KeptStep
from perfusion_registry.methods.perfusion import METHOD
from perfusion_registry.methods.perfusion.key_lock import KeyLock
from perfusion_registry.methods.perfusion.options import Built, RenderOptions, TrainOptions
from perfusion_registry.methods.residuals.options import DrawOptions
from perfusion_registry.methods.residuals.options import TrainOptions as ResidualOptions
from perfusion_registry.methods.textual_inversion.options import NoOptions
from perfusion_registry.methods.textual_inversion.options import TrainOptions as InversionOptions
from tests.compose.samples import artifact, concepts_of, covariance
from tests.compose.test_packing import (
    check_against_paper,
    layers_of,
    paper_layer,
    reference_encoding,
    supercategory_encoding,
)
from tests.sdxl import save_tiny_sdxl
from tests.tiny import fine_tuned, save_tiny_base

SHA = "a" * 64
MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn2"
TEMPLATES = ("a photo of a {}", "a painting of the {} in the snow")


def loaded(folder: Path) -> Base:
    return load_base(describe_base(str(folder)), device="cpu", dtype="float32", compute_dtype="float32")


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base of the same shapes, with another text encoder and another denoiser."""
    return save_tiny_base(tmp_path_factory.mktemp("other") / "base", seed=1)


@pytest.fixture(scope="module")
def other(other_folder: Path) -> Base:
    return loaded(other_folder)


def metric(seed: int = 7, width: int = 32) -> Covariance:
    return Covariance(torch.from_numpy(covariance(width, seed)), CovarianceCard())


def learned(base: Base, step: int = 60, **options: bool | float) -> Artifact:
    """A teddy of format 2, learned on `base`."""
    made = artifact(base, "teddy", "teddy", 1, schema_version=2, **options)
    start = KeyLock.to(base, "teddy", trained_keys=False).outputs
    tensors = {key: value for key, value in made.tensors.items() if not key.startswith("output.")}
    for layer in base.bank.layers:
        value = made.tensors[f"output.{layer.path}"].float() - start[layer.value_slice]
        tensors[f"offset.{layer.path}"] = value.half()
    built = Built(covariance="c" * 64, step=step, similarity=1.0)
    train = made.card.train.model_copy(update={"templates": TEMPLATES})
    return Artifact(made.card.model_copy(update={"built": built, "train": train}), tensors)


def same(first: Artifact, second: Artifact) -> None:
    assert first.tensors.keys() == second.tensors.keys()
    assert all(value.equal(second.tensors[key]) for key, value in first.tensors.items())


def test_to_a_base_of_the_same_family_it_is_the_same_artifact(
    tiny_base: Base, tiny_base_folder: Path, tmp_path: Path
) -> None:
    """The denoiser is another, and so is the base's digest; the concept stays what it is."""
    tuned = loaded(fine_tuned(tiny_base_folder, tmp_path / "tuned"))
    assert tuned.description.digest != tiny_base.description.digest
    C = metric()
    made = learned(tiny_base)
    card = made.card.model_copy(update={"built": Built(covariance=C.digest, step=60)})
    made = Artifact(card, made.tensors)
    assert transfer(made, SHA, tuned, C, digest=None) is made


def test_to_another_covariance_of_the_same_encoder_only_the_metric_changes(tiny_base: Base) -> None:
    """So that concepts of two covariances can share a prompt."""
    made, C = learned(tiny_base), metric()
    moved = transfer(made, SHA, tiny_base, C, digest=None)
    assert moved.tensors["target_input"].equal(made.tensors["target_input"])
    assert moved.tensors["target_input_dual"].equal(C.metric().dual(made.tensors["target_input"]))
    kept = {key: value for key, value in made.tensors.items() if key != "target_input_dual"}
    assert all(moved.tensors[key].equal(value) for key, value in kept.items())
    assert moved.card.covariance == C.digest


@pytest.mark.parametrize("rank", [0, 0.1])
def test_a_transferred_concept_is_equation_4_in_the_new_base(
    tiny_base: Base, other: Base, rank: float
) -> None:
    """o*_V is the new W_V e and what was learned beside it, o*_K the new W_K e, and i* what a moving average
    that begins at e has seen of the new encoder."""
    made, C = learned(tiny_base, rank=rank), metric()
    moved = transfer(made, SHA, other, C, digest="d" * 64)
    moved = load_artifact(save_artifact(moved))

    concepts = concepts_of(moved)
    text = "a {} in the snow"
    composition = compose(parse_prompt(text.format("teddy*")), concepts, other)
    embeddings = {"teddy": made.tensors["embedding"]}
    e = supercategory_encoding(other, "teddy")
    own = [reference_encoding(other, template.format("teddy"), embeddings) for template in TEMPLATES]
    places = [template.split().index("{}") + 1 for template in TEMPLATES]
    share, steps = 1.0, 60
    for step in range(1, steps + 1):
        share = 0.99 * share + 0.01 * (1 - step / steps)
    i = share * e + (1 - share) * np.mean([E[place] for E, place in zip(own, places, strict=True)], axis=0)
    np.testing.assert_allclose(moved.tensors["target_input"].numpy(), i, rtol=1e-4, atol=1e-5)

    ridged = C.C.numpy() + 0.01 * np.trace(C.C.numpy()) / 32 * np.eye(32)
    E = reference_encoding(other, text.format("teddy"), embeddings)
    gate = composition.concept("teddy").render
    expected = {}
    for path, (W_K, W_V) in layers_of(other).items():
        o_V = W_V @ e + made.tensors[f"offset.{path}"].double().numpy()
        expected[path] = (
            paper_layer(E, W_K, ridged, [(i, W_K @ e, gate.bias, gate.temperature)]),
            paper_layer(E, W_V, ridged, [(i, o_V, gate.bias, gate.temperature)]),
        )
    packed = pack(other, composition, {"teddy": moved}).states[0].numpy()
    check_against_paper(other, packed[:, : len(other.bank.W)], expected)
    own_gate = np.mean([E[p] @ np.linalg.solve(ridged, i) for E, p in zip(own, places, strict=True)])
    similarity = own_gate / (i @ np.linalg.solve(ridged, i))
    assert moved.card.own_similarity == pytest.approx(similarity, abs=1e-3)


def test_in_other_coordinates_a_base_draws_the_same(
    tiny_base: Base, tiny_base_folder: Path, tmp_path: Path
) -> None:
    """E D and W D^-1 are the same base in other coordinates, and so is what it makes of a concept."""
    D = torch.exp(0.5 * torch.randn(32, generator=torch.Generator().manual_seed(4)))
    folder = Path(shutil.copytree(tiny_base_folder, tmp_path / "scaled"))
    for file, name, scale in (
        ("text_encoder/model.safetensors", "final_layer_norm", D),
        ("unet/diffusion_pytorch_model.safetensors", "attn2.to_k", 1 / D),
        ("unet/diffusion_pytorch_model.safetensors", "attn2.to_v", 1 / D),
    ):
        tensors = load_file(folder / file)
        scaled = {key: value * scale if name in key else value for key, value in tensors.items()}
        save_file(scaled, folder / file, {"format": "pt"})
    there = loaded(folder)
    assert there.description.family != tiny_base.description.family

    made = learned(tiny_base)
    moved = transfer(made, SHA, there, metric(), digest=None)
    own = {
        "target_input": moved.tensors["target_input"] / D,
        "target_input_dual": moved.tensors["target_input_dual"] * D,
    }
    here = Artifact(made.card, {**made.tensors, **own})
    packed = []
    for base, concept in ((there, moved), (tiny_base, here)):
        composition = compose(parse_prompt("a teddy* in the snow"), concepts_of(concept), base)
        packed.append(pack(base, composition, {"teddy": concept}).states[0])
    torch.testing.assert_close(packed[0], packed[1], rtol=1e-3, atol=1e-3)


def test_sdxl_has_a_word_in_each_text_encoder(tmp_path: Path) -> None:
    """Both embeddings are carried, and i* is of both encoders side by side."""
    first, second = (loaded(save_tiny_sdxl(tmp_path / str(seed), seed)) for seed in (0, 1))
    d = first.bank.W.shape[1]
    numbers = torch.Generator().manual_seed(3)
    begun = METHOD.trainable(first, "teddy", metric(width=d).metric(), TrainOptions(), numbers)
    state = {
        key: value + 0.1 * torch.randn(value.shape, generator=numbers) for key, value in begun.state.items()
    }
    tensors = {key: value.detach() for key, value in begun.tensors(state).items()}
    card = ConceptCard(
        name="teddy",
        version="1.0.0",
        supercategory="teddy",
        architecture="sdxl",
        family=first.description.family,
        base=first.description.repo,
        train=TrainOptions(),
        render=RenderOptions(),
        built=Built(covariance="c" * 64, step=60),
    )
    made = load_artifact(save_artifact(Artifact(card, tensors)))
    moved = transfer(made, SHA, second, metric(width=d), digest=None)
    assert moved.tensors["embedding.2"].equal(made.tensors["embedding.2"])
    assert moved.tensors["target_input"].shape == (d,)
    concepts = concepts_of(moved)
    composition = compose(parse_prompt("a teddy* in the snow"), concepts, second)
    states = pack(second, composition, {"teddy": moved}).states
    assert states.shape[-1] == len(second.bank.W)
    assert bool(states.isfinite().all())
    assert moved.card.own_similarity == pytest.approx(1, abs=0.5)


def test_its_card_says_where_it_comes_from(tiny_base: Base, other: Base) -> None:
    made, C = learned(tiny_base), metric()
    scored = made.card.model_copy(update={"scores": {"image": 0.8}, "base_licence": "openrail"})
    moved = transfer(Artifact(scored, made.tensors), SHA, other, C, digest="d" * 64, licence="other").card
    assert (moved.name, moved.version, moved.supercategory) == ("teddy", "1.0.0", "teddy")
    assert (moved.family, moved.base) == (other.description.family, other.description.repo)
    assert (moved.covariance, moved.recipe_digest, moved.base_licence) == (C.digest, "d" * 64, "other")
    assert moved.scores == {}, "they were measured on the other base"
    source = moved.transferred
    assert source is not None
    assert (source.sha256, source.base, source.base_licence) == (SHA, tiny_base.description.repo, "openrail")
    assert source.family == tiny_base.description.family
    assert source.moved is not None
    assert source.moved > 0.1
    assert (moved.train, moved.render, moved.steps_kept) == (scored.train, scored.render, 60)


def test_format_1_and_trained_keys_are_told_from_the_base_that_they_were_learned_on(
    tiny_base: Base, other: Base
) -> None:
    """What is kept whole loses the old base's part, which its offset never had."""
    C = metric()
    offsets = learned(tiny_base, trained_keys=True)
    whole = dict(artifact(tiny_base, "teddy", "teddy", 1, trained_keys=True).tensors)
    first = Artifact(offsets.card.model_copy(update={"schema_version": 1, "requires_perf": None}), whole)
    assert needs_base(first)
    assert needs_base(offsets)
    assert not needs_base(learned(tiny_base))
    moved = transfer(first, SHA, other, C, digest=None, before=tiny_base)
    load_artifact(save_artifact(moved))
    same(moved, transfer(offsets, SHA, other, C, digest=None, before=tiny_base))
    old, new = (KeyLock.to(base, "teddy", trained_keys=False).outputs for base in (tiny_base, other))
    for layer in other.bank.layers:
        key = f"output_key.{layer.path}"
        expected = whole[key].float() - old[layer.key_slice] + new[layer.key_slice]
        assert moved.tensors[key].float().allclose(expected, atol=1e-2)
    back = transfer(moved, SHA, tiny_base, metric(8), digest=None, before=other)
    for key in whole:
        if key.startswith("output_key."):
            assert back.tensors[key].float().allclose(whole[key].float(), atol=1e-2)


@pytest.mark.parametrize("method", ["textual-inversion", "residuals"])
def test_other_methods_carry_what_they_learned(tiny_base: Base, other: Base, method: str) -> None:
    made = learned(tiny_base, rank=0.1)
    prefix, train, render = {
        "textual-inversion": ("embedding", InversionOptions(), NoOptions()),
        "residuals": ("residual_", ResidualOptions(), DrawOptions()),
    }[method]
    tables = {"method": method, "train": train, "render": render, "built": KeptStep(step=9)}
    card = ConceptCard(**{**made.card.model_dump(), **tables})
    kept = {key: value for key, value in made.tensors.items() if key.startswith(prefix)}
    moved = transfer(Artifact(card, kept), SHA, other, metric(), digest=None)
    same(moved, Artifact(card, kept))
    assert (moved.card.family, moved.card.steps_kept) == (other.description.family, 9)
    load_artifact(save_artifact(moved))


def narrower(made: Artifact, key: str) -> Artifact:
    return replace(made, tensors={**made.tensors, key: made.tensors[key][..., :-1]})


WRONG: dict[str, tuple[Callable[[Artifact], Artifact], str]] = {
    "embedding": (lambda made: narrower(made, "embedding"), "other token embeddings"),
    "encodings": (lambda made: narrower(made, "target_input"), "other encodings"),
    "layers": (
        lambda made: narrower(made, "offset.mid_block.attentions.0.transformer_blocks.0.attn2"),
        "layers",
    ),
    "a layer more": (
        lambda made: replace(made, tensors={**made.tensors, "offset.more": torch.ones(4).half()}),
        "other cross-attention layers",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused_in_a_sentence(tiny_base: Base, other: Base, wrong: str) -> None:
    change, said = WRONG[wrong]
    with pytest.raises(PerfError, match=said) as caught:
        transfer(change(learned(tiny_base)), SHA, other, metric(), digest=None)
    assert "perf build teddy" in (caught.value.hint or "")


def test_other_architectures_and_covariances_are_refused(tiny_base: Base, other: Base) -> None:
    made = learned(tiny_base)
    elsewhere = Artifact(made.card.model_copy(update={"architecture": "sdxl"}), made.tensors)
    with pytest.raises(PerfError, match="of the architecture sdxl"):
        transfer(elsewhere, SHA, other, metric(), digest=None)
    with pytest.raises(PerfError, match="needs a covariance"):
        transfer(made, SHA, other, None, digest=None)
    with pytest.raises(PerfError, match="has width 16"):
        transfer(made, SHA, other, metric(width=16), digest=None)


def test_the_same_bytes_again(tiny_base: Base, other: Base, other_folder: Path, tmp_path: Path) -> None:
    made = learned(tiny_base, rank=0.1)
    copy = loaded(Path(shutil.copytree(other_folder, tmp_path / "copy")))
    first, second = (
        save_artifact(transfer(made, SHA, base, metric(), digest=None)) for base in (other, other)
    )
    assert first == second
    same(load_artifact(first), transfer(made, SHA, copy, metric(), digest=None))
