"""`perf build --super pot=shoe --out FILE`: another supercategory, a file, and a lockfile that stays true."""

from __future__ import annotations

from pathlib import Path

from perfusion_registry.artifact import Store, load_artifact
from perfusion_registry.render import read_metadata
from tests.cli.running import Perf


def test_a_concept_under_another_supercategory(perf: Perf, project: Path) -> None:
    recipe = project / "recipes" / "bear.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("[train]\n", "[train]\nsteps = 1\n"))
    (first,) = perf("build", "--json").json["built"]
    lock, written = (project / "perfusion.lock").read_bytes(), recipe.read_bytes()

    asked = ("build", "--super", "bear=boat", "--out", "boat.safetensors")
    said = perf(*asked, "--dry-run")
    assert said.out == "Would build bear 1.0.0: under another supercategory\n"
    assert not (project / "boat.safetensors").exists()
    told = perf(*asked, "--json").json
    (row,) = told["built"]
    assert (row["name"], row["trained"], told["out"]) == ("bear", True, "boat.safetensors")
    made = load_artifact(project / "boat.safetensors")
    ours = load_artifact(Store(project / "store").get(first["sha256"]))
    assert (made.card.name, made.card.supercategory, ours.card.supercategory) == ("bear", "boat", "teddy")
    assert made.card.recipe_digest != ours.card.recipe_digest
    assert not made.tensors["target_input"].equal(ours.tensors["target_input"])

    # What is locked is the recipe's own concept, and everybody still says so.
    assert ((project / "perfusion.lock").read_bytes(), recipe.read_bytes()) == (lock, written)
    assert perf("lock", "--check").code == 0
    assert perf("build").out.startswith("Nothing to build")
    assert perf("verify").code == 0
    again = perf(*asked)
    assert "Wrote boat.safetensors: bear as boat; nothing is locked" in again.out
    assert perf(*asked, "--json").json["built"] == []

    # Prompts take the file; its picture names it by hash, and is drawn again from that.
    (composed,) = perf("compose", "a bear*", "--with", "boat.safetensors", "--json").json["concepts"]
    assert (composed["supercategory"], composed["sha256"]) == ("boat", row["sha256"])
    assert perf("compose", "a bear*", "--json").json["concepts"][0]["sha256"] == first["sha256"]
    assert perf("render", "a bear*", "--with", "boat.safetensors", "--out", "a.png").code == 0
    (project / "boat.safetensors").unlink()
    assert perf("render", "--from", "a.png", "--out", "b.png").code == 0
    assert read_metadata(project / "a.png").same_picture(read_metadata(project / "b.png"))
    assert (project / "perfusion.lock").read_bytes() == lock


def test_mistakes_are_told_before_anything_is_built(perf: Perf, project: Path) -> None:
    mistakes = {
        ("--super", "bear=boat"): "needs a file of its own",
        ("--super", "bear=boat", "--out", "boat.png"): "artifact is a .safetensors file",
        ("--super", "bear=boat", "--out", "no/b.safetensors"): "in a folder that exists",
        ("--super", "boat", "--out", "b.safetensors"): "which concept becomes what",
        ("--super", "bear=", "--out", "b.safetensors"): "which concept becomes what",
        ("--super", "baer=boat", "--out", "b.safetensors"): "did you mean `bear`?",
        ("--super", "bear=b*", "--out", "b.safetensors"): "'b*' cannot be a supercategory",
        ("--super", "bear=okapi", "--out", "b.safetensors"): "several tokens",
        ("--super", "bear=boat", "--super", "bear=cat", "--out", "b.safetensors"): "one concept at a time",
        ("cat", "--super", "bear=boat", "--out", "b.safetensors"): "names other concepts",
        ("--out", "b.safetensors"): "not into a file",
    }
    for arguments, told in mistakes.items():
        said = perf("build", *arguments)
        assert said.code == 2, arguments
        assert told in " ".join(said.err.split()), said.err
    assert not list(project.rglob("*.safetensors.tmp"))
    assert not (project / "perfusion.lock").exists()

    (project / "no.safetensors").write_bytes(b"none")
    said = perf("compose", "a bear*", "--with", "no.safetensors")
    assert (said.code, "not a whole artifact" in said.err, "no.safetensors" in said.err) == (2, True, True)
    said = perf("render", "--from", "x.png", "--with", "no.safetensors")
    assert "names its concepts by their hashes" in said.err
