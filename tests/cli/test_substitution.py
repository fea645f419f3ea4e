"""`perf build --super pot=shoe --out FILE`: another supercategory, a file, and a lockfile that stays true."""

from __future__ import annotations

from pathlib import Path

from tests.cli.running import Perf


def test_a_concept_under_another_supercategory(perf: Perf, project: Path) -> None:
    recipe = project / "recipes" / "bear.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("[train]\n", "[train]\nsteps = 1\n"))
    asked = ("build", "--super", "bear=boat", "--out", "boat.safetensors")
    assert perf(*asked, "--dry-run").out == "Would build bear 1.0.0: under another supercategory; 1 step\n"
    told = perf(*asked, "--json").json
    assert (told["built"][0]["name"], told["out"]) == ("bear", "boat.safetensors")
    again = perf(*asked)
    assert "Wrote boat.safetensors: bear as boat; nothing is locked" in again.out
    assert perf(*asked, "--json").json["built"] == []
    assert not (project / "perfusion.lock").exists()


def test_mistakes_are_told_before_anything_is_built(perf: Perf, project: Path) -> None:
    mistakes = {
        ("--super", "bear=boat"): "needs a file of its own",
        ("--super", "bear=boat", "--out", "boat.png"): "artifact is a .safetensors file",
        ("--super", "bear=boat", "--out", "no/b.safetensors"): "in a folder that exists",
        ("--super", "boat", "--out", "b.safetensors"): "which concept becomes what",
        ("--super", "bear=", "--out", "b.safetensors"): "which concept becomes what",
        ("--super", "baer=boat", "--out", "b.safetensors"): "did you mean `bear`?",
        ("--super", "bear=b*", "--out", "b.safetensors"): "'b*' cannot be a supercategory",
        ("--super", "bear=okapi", "--out", "b.safetensors"): "is no word that this base knows",
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
