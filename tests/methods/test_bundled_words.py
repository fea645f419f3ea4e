"""Words that lie in a LoRA's file (`bundle_emb`): its calls say them by their own embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from perfusion_registry.artifact import Artifact, save_artifact
from perfusion_registry.base import Base, ConceptPiece, describe_base, load_base
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.importing import said_in
from tests.embedding_files import vectors
from tests.lora_files import save_lora
from tests.methods.imported import concept, drawn, stock, widths
from tests.sdxl import save_shallow_sdxl
from tests.tiny import state_of


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def base(request: pytest.FixtureRequest, tiny_base_folder: Path, shared: Callable[..., Path]) -> Base:
    folder = tiny_base_folder if request.param == "sd" else shared("shallow-sdxl", save_shallow_sdxl)
    return load_base(describe_base(str(folder)), "cpu", "float32", "float32")


def bundled(base: Base, folder: Path, words: dict[str, list[Tensor]], name: str = "kitty") -> Path:
    """A LoRA with embeddings in it; beside it `plain.safetensors` without them."""
    plain = save_lora(base.pipe, folder / "plain.safetensors")
    names = ("clip_l", "clip_g") if len(widths(base)) > 1 else ("emb_params",)
    tensors = load_file(plain)
    for word, own in words.items():
        tensors |= {f"bundle_emb.{word}.{end}": one for end, one in zip(names, own, strict=True)}
    save_file(tensors, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def test_its_calls_say_its_word_as_diffusers_does(base: Base, tmp_path: Path) -> None:
    own = vectors(widths(base), 3)
    file = bundled(base, tmp_path, {"zwx": own})
    kitty = {"kitty": concept(base, file, "kitty", "cat", "a zwx cat")}
    card = kitty["kitty"].artifact.card
    assert card.built.model_dump()["words"] == ({"word": "zwx", "vectors": 3},)
    ours, before = drawn(base, "kitty* in the snow", kitty), state_of(base)
    theirs = stock(base, "a zwx cat in the snow", {"zwx": own}, tmp_path / "plain.safetensors")
    assert np.abs(ours - theirs).max() <= 1
    without = stock(base, "a zwx cat in the snow", {}, tmp_path / "plain.safetensors")
    assert np.abs(ours - without).mean() > 1
    assert np.array_equal(drawn(base, "kitty* in the snow", kitty), ours)
    assert state_of(base) == before
    composition = compose(parse_prompt("kitty* in the snow"), kitty, base)
    (said,) = composition.concepts
    assert (said.word, [(one.word, one.vectors) for one in said.learned]) == ("a zwx cat", [("zwx", 3)])
    assert len(said.positions) == 5


def test_a_call_without_strength_and_a_gated_one(base: Base, tmp_path: Path) -> None:
    file = bundled(base, tmp_path, {"zwx": vectors(widths(base), 2)})
    kitty = {"kitty": concept(base, file, "kitty", "cat", "zwx cat")}
    plain = drawn(base, "a cat in the snow", {})
    assert np.array_equal(drawn(base, "a kitty*{strength=0} in the snow", kitty), plain)
    plainly = {"kitty": concept(base, tmp_path / "plain.safetensors", "kitty", "cat", "zwx cat")}
    gated = "a kitty*{reach=gated} in the snow"
    assert not np.array_equal(drawn(base, gated, kitty), drawn(base, gated, plainly))


def test_several_words_and_those_that_a_phrase_does_not_say(tiny_base: Base, tmp_path: Path) -> None:
    first, second = vectors([32], 1), vectors([32], 2, seed=1)
    file = bundled(tiny_base, tmp_path, {"<s0>": first, "<s1>": second})
    both = {"kitty": concept(tiny_base, file, "kitty", None, "<s1><s0> style")}
    theirs = stock(
        tiny_base, "a cat, <s1> <s0> style", {"<s0>": first, "<s1>": second}, tmp_path / "plain.safetensors"
    )
    assert np.abs(drawn(tiny_base, "a cat, kitty*", both) - theirs).max() <= 1
    one = {"kitty": concept(tiny_base, file, "kitty", "cat", "cat <S0>")}
    (said,) = compose(parse_prompt("a kitty*"), one, tiny_base).concepts
    assert len(said.positions) == 2


def test_where_learned_words_are_in_a_phrase() -> None:
    learned = (("toy", 2), ("toy box", 1))
    assert ConceptPiece("a Toy, toys and a toy box", True, learned=learned).parts == (
        "a ",
        0,
        ", toys and a ",
        1,
    )
    assert ConceptPiece("a toy", True, learned=learned).read == "a "
    assert ConceptPiece("", True).parts == ()
    assert said_in("toys in a toy box", ["toy", "toy box"]) == ["toy box"]


def test_what_an_artifact_may_hold(tiny_base: Base, tmp_path: Path) -> None:
    (own,) = vectors([32], 2)
    whole = concept(tiny_base, bundled(tiny_base, tmp_path, {"zwx": [own]}), "kitty", "cat", "zwx").artifact
    key = "words.0.text_encoder"
    assert torch.equal(whole.tensors[key], own)
    for change, said in (
        ({"words.2.text_encoder": own}, "not numbered one after the other"),
        ({f"{key}_2": own[:1]}, "not as many vectors for each text encoder"),
        ({key: own[0]}, "two dimensions"),
    ):
        with pytest.raises(PerfError, match=said):
            save_artifact(Artifact(whole.card, whole.tensors | change))
    for tensors, said in (
        (whole.tensors | {key: own[:1]}, "has 1 vectors, and its card says 2"),
        ({name: one for name, one in whole.tensors.items() if name != key}, "has no vectors"),
        (whole.tensors | {key: torch.ones(2, 33)}, "its words have 33 numbers a token, and the base's 32"),
    ):
        with pytest.raises(PerfError, match=said):
            drawn(tiny_base, "a kitty*", {"kitty": Concept(Artifact(whole.card, tensors), "0" * 64)})
