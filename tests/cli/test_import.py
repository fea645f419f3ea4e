"""`perf import`, from somebody's LoRA to a picture on another machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from perfusion_registry.artifact import load_artifact, read_card
from perfusion_registry.base import Base
from perfusion_registry.recipe import read_lockfile
from tests.cli.elsewhere import draw_elsewhere, publish_all
from tests.cli.running import Perf, edit
from tests.embedding_files import save_embedding, vectors
from tests.lora_files import save_lora

KOHYA = {"ss_tag_frequency": json.dumps({"10_ohwx cat": {}}), "modelspec.license": "CC-BY-4.0"}


@pytest.fixture
def home(perf: Perf, place: Path, tiny_base_folder: Path, tiny_base: Base) -> Path:
    """A project on a base that comes without a covariance, with a registry, and two files of LoRAs."""
    assert perf("init", "--base", str(tiny_base_folder)).code == 0
    with (place / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "gallery"\n')
    save_lora(tiny_base.pipe, place / "files" / "kitty.safetensors", metadata=KOHYA)
    save_lora(tiny_base.pipe, place / "files" / "crayon.safetensors", seed=1)
    return place


def test_a_lora_is_a_concept_like_any_other(perf: Perf, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = perf("import", "files/kitty.safetensors", "--name", "kitty", "--super", "cat")
    assert said.code == 0, said.err
    assert "Imported kitty 1.0.0, a kind of cat (diffusers): recipes/kitty.toml" in said.out
    assert 'In a prompt kitty* reads "ohwx cat"' in said.out
    recipe = (home / "recipes" / "kitty.toml").read_text(encoding="utf-8")
    for line in ('file = "../files/kitty.safetensors"', 'word = "ohwx cat"', 'licence = "CC-BY-4.0"'):
        assert line in recipe
    styled = perf("import", "files/crayon.safetensors", "--name", "crayon", "--strength", ".5", "--json")
    assert "word" not in styled.json
    block = read_lockfile(home / "perfusion.lock").concept("crayon")
    assert block is not None
    assert (block.method, dict(block.render)) == ("lora", {"strength": 0.5})
    assert perf("lock", "--check").code == 0
    assert "Nothing to build" in perf("build").out or perf("build").code == 0

    # What the recipe pins is the file by its hash: its bytes are looked at when it is built, and not before.
    rebuilt = perf("verify", "--rebuild")
    assert rebuilt.code == 0
    assert rebuilt.out.count("the same bytes") == 2
    edit(home / "recipes" / "kitty.toml", '"ohwx cat"', '"zwx cat"')
    assert perf("build").code == 0
    listed = {row["name"]: row for row in perf("metadata", "--format-version", "1").json["concepts"]}
    card = read_card(Path(listed["kitty"]["artifact"]))
    assert (card.word, card.supercategory) == ("zwx cat", "cat")
    assert card.imported is not None
    assert (card.imported.file, card.imported.dialect) == ("kitty.safetensors", "diffusers")
    assert "cat" in perf("list").out
    assert listed["kitty"]["imported"]["file"] == "kitty.safetensors"
    assert "kitty.safetensors (diffusers, " in perf("info", "kitty").out
    assert card.imported.sha256 in perf("info", "kitty").out
    base = perf("metadata", "--format-version", "1").json["base"]
    assert (base["covariance"], base["problem"]) == (None, None)  # no concept here needs one
    refused = perf("export", "kitty", "--as", "lora")  # it is a file of that kind already
    assert refused.code == 2
    assert "`kitty` was imported: what it was imported from is what other programs take" in refused.err

    published = publish_all(perf, ("kitty", "crayon"))
    assert "concept, a style" in published[-1].out
    draw = ("render", "a kitty*{strength=.8} in the snow, crayon*", "--steps", "1", "--out", "out.png")
    draw_elsewhere(perf, home, ("kitty", "crayon"), draw, monkeypatch)
    info = perf("info", "studio/kitty")
    assert "cat" in info.out


def test_what_is_imported_is_named_by_its_hash(perf: Perf, home: Path, tiny_base: Base) -> None:
    assert perf("import", "files/kitty.safetensors", "--name", "kitty", "--super", "cat").code == 0
    file = home / "files" / "kitty.safetensors"
    before = file.read_bytes()
    save_lora(tiny_base.pipe, file, seed=9)
    assert perf("lock", "--check").code == 0  # locked is what the recipe says
    said = perf("build", "--force")
    assert said.code == 2
    assert "is another than its recipe says" in said.err
    file.unlink()
    assert "is not there" in perf("build", "--force").err
    file.write_bytes(before)
    assert perf("build", "--force").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("files/none.safetensors", "--name", "kitty"), "none.safetensors"),
        (("files/kitty.bin", "--name", "kitty"), "pickle"),
        (("files/kitty.safetensors", "--name", "kitty", "--super", "kitten"), "`kitten` is no word"),
        (("files/kitty.safetensors", "--name", "kitty", "--word", "a*"), "belong to the prompt grammar"),
        (("files/wide.safetensors", "--name", "kitty"), "cannot be imported for"),
    ],
)
def test_what_cannot_be_imported_leaves_nothing_behind(
    perf: Perf, home: Path, arguments: tuple[str, ...], said: str
) -> None:
    import torch
    from safetensors.torch import save_file

    (home / "files" / "kitty.bin").write_bytes(b"\x80\x04.")
    place = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    wide = {f"{place}.lora_A.weight": torch.ones(2, 2048), f"{place}.lora_B.weight": torch.ones(640, 2)}
    save_file(wide, home / "files" / "wide.safetensors")
    manifest = (home / "perfusion.toml").read_bytes()
    refused = perf("import", *arguments)
    assert refused.code == 2
    assert said in refused.err
    assert (home / "perfusion.toml").read_bytes() == manifest
    assert not (home / "recipes" / "kitty.toml").exists()
    assert not (home / "perfusion.lock").exists()


def test_names_that_are_taken_and_other_ways_in(perf: Perf, home: Path) -> None:
    assert perf("import", "files/kitty.safetensors", "--name", "kitty", "--super", "cat").code == 0
    again = perf("import", "files/kitty.safetensors", "--name", "kitty", "--super", "cat")
    assert "There is a concept `kitty` already" in again.err
    added = perf("add", "pup", "--super", "dog", "--images", "files/*", "--method", "lora")
    assert added.code == 2
    assert "perf import FILE" in added.err


def test_the_numbers_of_a_file_are_kept_as_they_are(perf: Perf, home: Path) -> None:
    from safetensors.torch import load_file

    assert perf("import", "files/kitty.safetensors", "--name", "kitty", "--super", "cat").code == 0
    listed = perf("metadata", "--format-version", "1").json["concepts"][0]
    kept = load_artifact(Path(listed["artifact"])).tensors
    given = load_file(home / "files" / "kitty.safetensors")
    assert len(kept) == len(given)
    key = next(key for key in given if key.endswith("attn2.to_k.lora_A.weight"))
    name = key.replace("unet.", "denoiser.", 1).replace("lora_A.weight", "lora_down")
    assert (kept[name] == given[key]).all()


def test_a_lora_brings_its_own_words(perf: Perf, home: Path, tiny_base: Base) -> None:
    """`bundle_emb`: a call says them, and is theirs; what it does not say is told."""
    (own,), (wide,) = vectors([32], 2), vectors([33], 2)
    tensors, files = load_file(home / "files" / "kitty.safetensors"), home / "files"
    save_embedding(files / "toy.safetensors", tensors | {"bundle_emb.toy.emb_params": own}, KOHYA)
    save_embedding(files / "wide.safetensors", tensors | {"bundle_emb.toy.emb_params": wide})
    said = perf("import", "files/toy.safetensors", "--name", "kitty", "--super", "cat")
    assert said.code == 0, said.err
    assert 'In a prompt kitty* reads "toy"' in said.out  # and not the folder's "ohwx cat", which says no toy
    listed = {row["name"]: row for row in perf("metadata", "--format-version", "1").json["concepts"]}
    artifact = load_artifact(Path(listed["kitty"]["artifact"]))
    assert (artifact.tensors["words.0.text_encoder"] == own).all()
    other = perf("import", "files/toy.safetensors", "--name", "pup", "--super", "dog", "--word", "ohwx dog")
    assert other.code == 0
    assert "brings embeddings of 'toy', which calls do not say" in " ".join(other.err.split())
    assert perf("verify", "--rebuild").out.count("the same bytes") == 2
    composed = perf("compose", "a kitty* in the snow", "--out", "scene.json")
    assert composed.code == 0, composed.err
    pictures = []
    for source in (["a kitty* in the snow"], ["--composition", "scene.json"]):
        drawn = perf("render", *source, "--steps", "1", "--seed", "3", "--out", f"{len(source)}.jpg")
        assert drawn.code == 0, drawn.err
        pictures.append(Image.open(home / f"{len(source)}.jpg").tobytes())
    assert pictures[0] == pictures[1]
    refused = perf("import", "files/wide.safetensors", "--name", "none")
    assert refused.code == 2
    told = "embedding `toy` has 33 numbers a token, and the base's text encoder 32"
    assert told in " ".join(refused.err.split())
