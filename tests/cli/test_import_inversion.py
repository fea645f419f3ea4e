"""`perf import` of a textual inversion: a concept like any other, and back into a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from perfusion_registry.artifact import load_artifact, read_card
from perfusion_registry.recipe import read_lockfile
from tests.cli.elsewhere import draw_elsewhere, publish_all
from tests.cli.running import Perf, edit
from tests.embedding_files import save_embedding, vectors


@pytest.fixture
def home(perf: Perf, place: Path, tiny_base_folder: Path) -> Path:
    """A project on a base that comes without a covariance, with a registry, and two files of embeddings."""
    assert perf("init", "--base", str(tiny_base_folder)).code == 0
    with (place / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "gallery"\n')
    (several,), (one,) = vectors([32], 3), vectors([32], 1, seed=1)
    said = {"modelspec.license": "CC-BY-4.0"}
    save_embedding(place / "files" / "learned_embeds.safetensors", {"<toy>": several}, said)
    save_embedding(place / "files" / "fog.safetensors", {"emb_params": one.half()})
    return place


def tensors_of(perf: Perf, name: str) -> dict[str, torch.Tensor]:
    listed = {row["name"]: row for row in perf("metadata", "--format-version", "1").json["concepts"]}
    return load_artifact(Path(listed[name]["artifact"])).tensors


def test_a_textual_inversion_is_a_concept_like_any_other(
    perf: Perf, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = perf("import", "files/learned_embeds.safetensors", "--name", "toy", "--super", "cat")
    assert said.code == 0, said.err
    assert "Imported toy 1.0.0, a kind of cat (diffusers): recipes/toy.toml" in said.out
    assert "In a prompt toy* is 3 tokens of its own" in said.out
    recipe = (home / "recipes" / "toy.toml").read_text(encoding="utf-8")
    for line in ('method = "textual-inversion"', 'file = "../files/learned_embeds', 'licence = "CC-BY-4.0"'):
        assert line in recipe
    assert "word" not in recipe
    fog = perf("import", "files/fog.safetensors", "--name", "fog", "--json").json
    told = {key: fog.get(key) for key in ("method", "dialect", "vectors", "supercategory", "word")}
    wanted = {"method": "textual-inversion", "dialect": "A1111", "vectors": 1}
    assert told == {**wanted, "supercategory": None, "word": None}
    assert (tensors_of(perf, "fog")["embedding"] == load_file("files/fog.safetensors")["emb_params"]).all()
    block = read_lockfile(home / "perfusion.lock").concept("toy")
    assert block is not None
    assert (block.method, dict(block.render)) == ("textual-inversion", {})
    assert perf("lock", "--check").code == 0
    assert perf("verify", "--rebuild").out.count("the same bytes") == 2

    explained = perf("explain", "a toy* in the snow, fog*")
    assert explained.code == 0, explained.err
    refused = perf("render", "a toy*{strength=.5}")
    assert "a concept of the method `textual-inversion` has no options" in refused.err

    publish_all(perf, ("toy", "fog"))
    draw = ("render", "a toy* in the snow, fog*", "--steps", "1", "--out", "out.png")
    draw_elsewhere(perf, home, ("toy", "fog"), draw, monkeypatch)
    info = perf("info", "studio/toy")
    assert "textual-inversion" in info.out


def test_what_is_exported_is_imported_as_it_was(perf: Perf, home: Path) -> None:
    """Numbers to the bit, and the same picture."""
    assert perf("import", "files/learned_embeds.safetensors", "--name", "toy", "--super", "cat").code == 0
    exported = perf("export", "toy", "--as", "textual-inversion", "--word", "<mine>", "--device", "cpu")
    assert exported.code == 0, exported.err
    (file,) = (home / "exports").iterdir()
    assert {name: tuple(one.shape) for name, one in load_file(file).items()} == {"<mine>": (3, 32)}
    assert perf("import", str(file), "--name", "again", "--super", "cat").code == 0
    first, second = tensors_of(perf, "toy"), tensors_of(perf, "again")
    assert torch.equal(first["embedding"], second["embedding"])
    for name in ("toy", "again"):
        draw = perf("render", f"a {name}* in the snow", "--steps", "1", "--out", f"{name}.jpg", "--seed", "3")
        assert draw.code == 0, draw.err
    from PIL import Image

    pictures = [Image.open(home / f"{name}.jpg").tobytes() for name in ("toy", "again")]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("learned_embeds.safetensors", "--word", "a toy"), "whose calls become its own tokens, not words"),
        (("learned_embeds.safetensors", "--strength", ".5"), "is a textual inversion, which has no strength"),
        (("learned_embeds.pt",), "this is a pickle"),
        (("learned_embeds.bin",), "this is a pickle"),
        (("wide.safetensors",), "has 768 numbers a token, and the base's text encoder 32"),
        (("xl.safetensors",), "has 768 and 1280 numbers a token, and the base's text encoder 32"),
    ],
)
def test_what_cannot_be_imported_leaves_nothing_behind(
    perf: Perf, home: Path, arguments: tuple[str, ...], said: str
) -> None:
    for name in ("learned_embeds.pt", "learned_embeds.bin"):
        (home / "files" / name).write_bytes(b"\x80\x04.")
    save_embedding(home / "files" / "wide.safetensors", {"<toy>": torch.ones(1, 768)})
    save_embedding(
        home / "files" / "xl.safetensors", {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}
    )
    manifest = (home / "perfusion.toml").read_bytes()
    file, *rest = arguments
    refused = perf("import", f"files/{file}", "--name", "toy", *rest)
    assert refused.code == 2
    assert said in " ".join(refused.err.split())
    if "numbers a token" in said:
        assert "cannot be imported for " in refused.err  # and the base by name
    assert (home / "perfusion.toml").read_bytes() == manifest
    assert not (home / "recipes" / "toy.toml").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sha256 =", "description =", "`file` and `sha256` say together what it is imported from"),
        ("", "\n[train]\nsteps = 3\n", "it is imported from a file"),
        ('supercategory = "cat"', 'supercategory = "dog"', ""),
    ],
)
def test_what_its_recipe_may_say(perf: Perf, home: Path, old: str, new: str, said: str) -> None:
    assert perf("import", "files/learned_embeds.safetensors", "--name", "toy", "--super", "cat").code == 0
    recipe = home / "recipes" / "toy.toml"
    if old:
        edit(recipe, old, new)
    else:
        recipe.write_text(recipe.read_text(encoding="utf-8") + new, encoding="utf-8")
    built = perf("build")
    assert built.code == (2 if said else 0), built.err
    assert said in " ".join(built.err.split())
    if not said:
        listed = perf("metadata", "--format-version", "1").json["concepts"][0]
        assert read_card(Path(listed["artifact"])).supercategory == "dog"


LEARNED = '[concept]\nname = "toy"\nversion = "1.0.0"\nmethod = "textual-inversion"\n'


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ('images = ["*.png"]\n', "`supercategory` is missing, the word that its embedding starts from"),
        ('supercategory = "cat"\n', "`images` are missing, which it is learned from, or the `file`"),
    ],
)
def test_what_a_learned_one_needs(perf: Perf, home: Path, said: str, missing: str) -> None:
    (home / "recipes").mkdir(exist_ok=True)
    (home / "recipes" / "toy.toml").write_text(LEARNED + said, encoding="utf-8")
    refused = perf("add", "toy")
    assert refused.code == 2
    assert missing in " ".join(refused.err.split())
