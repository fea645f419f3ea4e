"""Imported textual inversions as they are drawn: what diffusers draws, beside concepts of other methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from perfusion_registry.adapters.writing import embedding_tensors, file_bytes
from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.build.transfer import transfer
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.compose.explanation import explain
from perfusion_registry.compose.focusing import residuals
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.exporting import word_vectors
from perfusion_registry.methods.table import find_method
from perfusion_registry.methods.textual_inversion.options import NoOptions, Untrained
from perfusion_registry.render.request import read_negative
from tests.compose import samples
from tests.embedding_files import save_embedding, vectors
from tests.lora_files import save_lora
from tests.methods.imported import concept, described, drawn, stock, widths
from tests.sdxl import save_tiny_sdxl
from tests.tiny import save_tiny_base, state_of


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def base(request: pytest.FixtureRequest, tiny_base_folder: Path, shared: Callable[..., Path]) -> Base:
    folder = tiny_base_folder if request.param == "sd" else shared("tiny-sdxl-words", save_tiny_sdxl)
    return load_base(describe_base(str(folder)), "cpu", "float32", "float32")


SD = {
    "diffusers, (d,)": (1, lambda one: {"<toy>": one[0][0]}),
    "diffusers, (n, d)": (3, lambda one: {"<toy>": one[0]}),
    "A1111": (2, lambda one: {"emb_params": one[0]}),
}
SDXL = {
    "A1111": (2, lambda one: {"clip_l": one[0], "clip_g": one[1]}),
    "pivotal tuning": (1, lambda one: {"text_encoders_0": one[0], "text_encoders_1": one[1]}),
}


def test_it_is_what_diffusers_draws(base: Base, tmp_path: Path) -> None:
    plain, before = drawn(base, "a cat in the snow", {}), state_of(base)
    sdxl = len(widths(base)) > 1
    for number, (count, tensors) in enumerate((SDXL if sdxl else SD).values()):
        own = vectors(widths(base), count, seed=number)
        file = save_embedding(tmp_path / f"{number}.safetensors", tensors(own))
        toy = {"toy": concept(base, file, "toy", "cat")}
        assert toy["toy"].artifact.card.vectors == count
        theirs = stock(base, "a <toy> in the snow", {"<toy>": own if sdxl else file})
        ours = drawn(base, "a toy* in the snow", toy)
        assert np.abs(ours - theirs).max() <= 1
        assert np.abs(ours - plain).mean() > 1
    assert state_of(base) == before


def test_without_a_supercategory_it_is_a_style(base: Base, tmp_path: Path) -> None:
    fog, toy = vectors(widths(base), 2, seed=5), vectors(widths(base), 1, seed=6)
    names = ("clip_l", "clip_g") if len(fog) > 1 else ("emb_params",)
    concepts = {
        "fog": concept(
            base, save_embedding(tmp_path / "fog.safetensors", dict(zip(names, fog, strict=True))), "fog"
        ),
        "toy": concept(
            base,
            save_embedding(tmp_path / "toy.safetensors", dict(zip(names, toy, strict=True))),
            "toy",
            "cat",
        ),
    }
    ours = drawn(base, "a toy* in the snow, fog*", concepts)
    theirs = stock(base, "a <toy> in the snow, <fog>", {"<toy>": toy, "<fog>": fog})
    assert np.abs(ours - theirs).max() <= 1
    assert np.abs(ours - drawn(base, "a toy* in the snow", concepts)).mean() > 1
    composition = compose(parse_prompt("a toy* in the snow, fog*"), concepts, base)
    assert [(one.supercategory, one.vectors) for one in composition.concepts] == [("cat", 1), (None, 2)]
    told = explain(base, composition, {name: one.artifact for name, one in concepts.items()})
    assert [row.word for row in told.tokens if row.concept == "fog"] == ["<token>", "<token>"]
    assert [row.word for row in told.tokens].count("<end>") == 1


def test_it_shares_a_prompt_with_perfusion_and_a_lora(tiny_base: Base, tmp_path: Path) -> None:
    base = tiny_base
    save_lora(base.pipe, tmp_path / "kitty.safetensors")
    (own,) = vectors(widths(base), 2)
    concepts = {
        "toy": concept(base, save_embedding(tmp_path / "toy.safetensors", {"emb_params": own}), "toy", "hat"),
        "fog": concept(base, save_embedding(tmp_path / "fog.safetensors", {"emb_params": own}), "fog"),
        "kitty": concept(base, tmp_path / "kitty.safetensors", "kitty", "cat"),
        "bear": samples.concept(samples.artifact(base, "bear", "teddy", 1)),
    }
    prompt = "a kitty* and a toy* beside a bear*{lock=global}, fog*"
    composition = compose(parse_prompt(prompt), concepts, base)
    reaches = {one.name: one.render.model_dump().get("reach") for one in composition.concepts}
    assert reaches == {"kitty": "gated", "toy": None, "bear": None, "fog": None}
    artifacts = {name: one.artifact for name, one in concepts.items()}
    marks = residuals(base, composition, artifacts).focus
    assert marks.shape[1] == 3  # regions are of things, and a style has none
    before, picture = state_of(base), drawn(base, prompt, concepts)
    for fewer in ("a kitty* and a hat beside a bear*{lock=global}, fog*", prompt.replace(", fog*", "")):
        assert not np.array_equal(picture, drawn(base, fewer, concepts))
    assert state_of(base) == before


def test_what_leaves_as_a_file_comes_back_to_the_bit(base: Base, tmp_path: Path) -> None:
    own = vectors(widths(base), 2)
    names = ("clip_l", "clip_g") if len(own) > 1 else ("<toy>",)
    toy = concept(base, save_embedding(tmp_path / "a.safetensors", dict(zip(names, own, strict=True))), "toy")
    card, tensors = toy.artifact.card, toy.artifact.tensors
    method = find_method(card.method)
    brought = method.contribution(base, tensors, "toy", "", card.train, card.render)
    file = tmp_path / "b.safetensors"
    file.write_bytes(file_bytes(embedding_tensors(word_vectors(brought, "<mine>")), {}))
    again = concept(base, file, "toy").artifact
    assert again.card.vectors == 2
    assert all(torch.equal(again.tensors[name], one) for name, one in tensors.items())


def test_a_negative_prompt_calls_none_and_says_where_an_embedding_for_one_goes() -> None:
    with pytest.raises(PerfError, match="a negative prompt cannot call a concept") as caught:
        read_negative("a fog*")
    assert "[base.embeddings]" in str(caught.value.hint)


def test_it_is_carried_to_a_base_of_another_family(tiny_base: Base, tmp_path: Path) -> None:
    (own,) = vectors([32], 2)
    toy = concept(
        tiny_base, save_embedding(tmp_path / "t.safetensors", {"<toy>": own}), "toy", "cat"
    ).artifact
    other = load_base(
        describe_base(str(save_tiny_base(tmp_path / "base", seed=1))), "cpu", "float32", "float32"
    )
    moved = transfer(toy, "a" * 64, other, None, digest=None)
    assert (moved.card.family, moved.card.vectors) == (other.description.family, 2)
    read = load_artifact(save_artifact(moved))
    assert (read.card.train, read.card.built) == (Untrained(), Untrained())
    assert torch.equal(read.tensors["embedding"], own)
    assert drawn(other, "a toy*", {"toy": Concept(read, "0" * 64)}).shape == (64, 64, 3)


def test_what_does_not_fit_is_refused_with_both_sizes(base: Base, tmp_path: Path) -> None:
    ours = " and ".join(map(str, widths(base)))
    wide = save_embedding(tmp_path / "wide.safetensors", {"<toy>": torch.ones(2, 1024)})
    many = vectors(widths(base), 76)
    names = ("clip_l", "clip_g") if len(many) > 1 else ("<toy>",)
    many_file = save_embedding(tmp_path / "many.safetensors", dict(zip(names, many, strict=True)))
    uneven = save_embedding(
        tmp_path / "uneven.safetensors", {"clip_l": many[0][:2].clone(), "clip_g": many[-1][:3]}
    )
    whole = {name: one[:1].clone() for name, one in zip(names, many, strict=True)}
    whole[names[0]][0, 0] = torch.nan
    for file, said in (
        (wide, f"embedding `<toy>` has 1024 numbers a token, and the base's text encoder {ours}"),
        (many_file, "has 76 vectors, and a prompt has room for 75"),
        (uneven, "its `clip_l` and `clip_g` are not as many vectors for each text encoder"),
        (save_embedding(tmp_path / "nan.safetensors", whole), "values that are not finite"),
    ):
        with pytest.raises(PerfError) as caught:
            concept(base, file, "toy")
        assert said in caught.value.what
        assert str(file) == caught.value.where


def test_a_recipe_says_the_method_of_its_file(tiny_base: Base, tmp_path: Path) -> None:
    lora = save_lora(tiny_base.pipe, tmp_path / "kitty.safetensors")
    (own,) = vectors([32], 1)
    word = save_embedding(tmp_path / "toy.safetensors", {"<toy>": own})
    for file, method, said in (
        (lora, "textual-inversion", "is a LoRA, or one of its kin, and no concept of the method"),
        (word, "lora", "is a textual inversion, and no concept of the method `lora`"),
    ):
        with pytest.raises(PerfError, match=said):
            find_method(method).imported(file, described(tiny_base), "toy")


def test_artifacts_whose_vectors_are_not_as_many_as_they_say(tiny_base: Base, tmp_path: Path) -> None:
    (own,) = vectors([32], 2)
    toy = concept(
        tiny_base, save_embedding(tmp_path / "t.safetensors", {"<toy>": own}), "toy", "cat"
    ).artifact
    fewer = Concept(Artifact(toy.card.model_copy(update={"vectors": 1}), toy.tensors), "0" * 64)
    with pytest.raises(PerfError, match="'toy' has 2 vectors, and its card says 1"):
        drawn(tiny_base, "a toy*", {"toy": fewer})
    for tensors, said in (
        ({"embedding": own, "embedding.2": own[:1]}, "not as many vectors"),
        ({"embedding": own[None]}, "not as many vectors"),
        ({"embedding.2": own}, "`embedding` is missing"),
    ):
        with pytest.raises(PerfError, match=said):
            save_artifact(Artifact(toy.card, tensors))
    wide = Concept(Artifact(toy.card, {"embedding": torch.ones(2, 33)}), "0" * 64)
    with pytest.raises(PerfError, match="its embeddings have 33 numbers a token, and 32 are needed"):
        drawn(tiny_base, "a toy*", {"toy": wide})
    assert (toy.card.train, toy.card.built, toy.card.render) == (Untrained(), Untrained(), NoOptions())
