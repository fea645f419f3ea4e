"""Tuning, against drawing and judging every choice with the parts that it is not made of."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer
from typer.testing import CliRunner

from perfusion_registry.artifact import Artifact, save_artifact
from perfusion_registry.base.pixels import Preprocessing
from perfusion_registry.cli import app
from perfusion_registry.compose import SettingSources, compose, parse_prompt, regated
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import read_manifest
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import DrawOptions
from perfusion_registry.render import RenderRequest, render
from perfusion_registry.render.tuning import tune
from tests.compose.samples import on

REQUEST = RenderRequest(seeds=(5, 6), steps=1, guidance=2.0, width=64, height=64)
ANY = 1e9  # so that the best of all is chosen, whatever it loses
SPACE = {"bias": (0.1, 0.9), "temperature": (0.1,)}


def own(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


class ByHand:
    """The scores of Section 5, from the whole CLIP model and pictures drawn all at once."""

    def __init__(self, base, folder, composition, concepts, references, text):
        self.base, self.composition, self.concepts = base, composition, concepts
        self.model = CLIPModel.from_pretrained(folder / "clip").eval()
        tokens = CLIPTokenizer.from_pretrained(folder / "clip")(text, return_tensors="pt")
        self.inputs, self.prepare = tokens, Preprocessing.clip(32)
        self.references = {name: self.features(pictures)[0] for name, pictures in references.items()}
        plain = parse_prompt(composition.prompt).spoken(
            {n: c.artifact.card.supercategory for n, c in concepts.items()}
        )
        self.words = self.drawn(compose(parse_prompt(plain), {}, base))[1]

    def features(self, pixels):
        with torch.no_grad():
            out = self.model(**self.inputs, pixel_values=self.prepare(pixels))
        return out.image_embeds, float((out.image_embeds @ out.text_embeds.T).mean())

    def drawn(self, composition):
        pictures = [
            torch.from_numpy(np.asarray(one.image, dtype=np.float32) / 255).permute(2, 0, 1)
            for one in render(self.base, composition, REQUEST, on(self.concepts))
        ]
        return self.features(torch.stack(pictures))

    def harmonic(self, settings):
        gates = {
            concept.name: Gate(one.bias, one.temperature, one.key_lock, one.residual)
            for concept, one in zip(self.composition.concepts, settings, strict=True)
        }
        seen, fit = self.drawn(regated(self.composition, SettingSources(gates)))
        alike = [float((seen @ other.T).mean()) for other in self.references.values()]
        image, text = sum(alike) / len(alike), fit / max(self.words, 1e-3)
        return 0.0 if min(image, text) <= 0 else 2 / (1 / image + 1 / text)


def setting(bias, temperature, lock):
    return DrawOptions(bias=bias, temperature=temperature, key_lock=lock)


def settings_of(composition):
    return tuple(concept.render for concept in composition.concepts)


def test_with_room_for_all_one_concept_has_the_best_of_the_grid(tiny_base, tiny_base_folder, concepts):
    composition = compose(parse_prompt("watercolor painting of teddy*"), concepts, tiny_base)
    references = {"teddy": own(1)}
    tuned = tune(tiny_base, composition, on(concepts), REQUEST, references, SPACE, images=100, most_lost=ANY)
    judge = ByHand(
        tiny_base, tiny_base_folder, composition, {"teddy": concepts["teddy"]}, references,
        "watercolor painting of",
    )  # fmt: skip
    grid = [
        settings_of(composition),
        *((setting(b, 0.1, k),) for k in ("local", "global") for b in (0.1, 0.9)),
    ]
    scores = {settings: judge.harmonic(settings) for settings in grid}
    assert len({round(score, 7) for score in scores.values()}) == len(grid)  # there is something to choose
    assert tuned.after.options == max(scores, key=scores.__getitem__)
    assert {one.options: one.scores.harmonic for one in tuned.attempts} == pytest.approx(scores, abs=1e-4)
    assert tuned.before.scores.harmonic == pytest.approx(scores[grid[0]], abs=1e-4)
    assert tuned.drawn == 2 * (len(grid) + 1)
    again = tune(tiny_base, composition, on(concepts), REQUEST, references, SPACE, images=100, most_lost=ANY)
    assert again.attempts == tuned.attempts
    assert all(
        x.tobytes() == y.tobytes()
        for a, b in zip(again.pictures, tuned.pictures, strict=True)
        for x, y in zip(a, b, strict=True)
    )


def test_of_two_concepts_no_single_change_helps(tiny_base, tiny_base_folder, concepts):
    composition = compose(parse_prompt("oil painting of the teddy* and the cat*"), concepts, tiny_base)
    references = {"teddy": own(1), "cat": own(2)}
    space = SPACE | {"key_lock": ("local", "none")}
    tuned = tune(tiny_base, composition, on(concepts), REQUEST, references, space, images=1000, most_lost=ANY)
    called = {name: concepts[name] for name in ("teddy", "cat")}
    judge = ByHand(
        tiny_base, tiny_base_folder, composition, called, references, "oil painting of the and the"
    )
    best = tuned.after.options
    mine = judge.harmonic(best)
    assert mine > 0
    assert tuned.after.scores.harmonic == pytest.approx(mine, abs=1e-4)
    assert tuned.after.scores.image == pytest.approx(sum(tuned.after.alike.values()) / 2)
    locks = {0: ["local"], 1: ["local", "none"]}  # only the cat's keys were trained
    for j in (0, 1):
        for bias, lock in product((0.1, 0.9), locks[j]):
            other = list(best)
            other[j] = setting(bias, 0.1, lock)
            assert judge.harmonic(tuple(other)) <= mine + 1e-4


def test_neither_similarity_is_bought_with_the_other(tiny_base, concepts):
    """Of the same choices, with a bound and without one: with it, what is chosen loses little of either."""
    composition = compose(parse_prompt("watercolor painting of teddy*"), concepts, tiny_base)
    chosen = {}
    for seed in range(2):
        for most_lost in (0.0, 0.02, ANY):
            tuned = tune(
                tiny_base, composition, on(concepts), REQUEST, {"teddy": own(seed)}, SPACE, images=100,
                most_lost=most_lost,
            )  # fmt: skip
            before, after = tuned.before.scores, tuned.after.scores
            for was, now in ((before.image, after.image), (before.text, after.text)):
                assert now >= was - most_lost * abs(was)
            chosen[seed, most_lost] = tuned.after.options
            best = max(
                (
                    one
                    for one in tuned.attempts
                    if one.seeds == 2
                    and one.scores.image >= before.image - most_lost * abs(before.image)
                    and one.scores.text >= before.text - most_lost * abs(before.text)
                ),
                key=lambda one: one.scores.harmonic,
            )
            assert after.harmonic == best.scores.harmonic
    assert any(chosen[seed, 0.0] != chosen[seed, ANY] for seed in range(2))


def test_residuals_are_tried_with_the_gate_as_it_is_or_as_asked(tiny_base, tiny_base_folder, concepts):
    text = "watercolor painting of hugsy*{residual=.7} and teddy*"
    composition = compose(parse_prompt(text), concepts, tiny_base)
    references = {"hugsy": own(1), "teddy": own(2)}

    def tried(residuals):
        space = {"bias": (0.2,), "temperature": (0.1,), "key_lock": ("local",)}
        wider = {"bias": (0.2, 0.65), "temperature": (0.15,)}
        space |= wider if residuals is None else {"residual": residuals}
        return tune(tiny_base, composition, on(concepts), REQUEST, references, space, images=100)

    alone = {one.options[0] for one in tried(None).attempts}
    assert {options.residual for options in alone} == {0.7, 0.6, 0.8, 1.0, 1.2}
    assert {options.bias for options in alone if options.residual != 0.7} == {0.65}
    tuned = tried((0.0, 1.5))
    assert {one.options[0].residual for one in tuned.attempts} == {0.7, 0.0, 1.5}
    assert {one.options[1].residual for one in tuned.attempts} == {None}
    called = {name: concepts[name] for name in ("hugsy", "teddy")}
    judge = ByHand(tiny_base, tiny_base_folder, composition, called, references, "watercolor painting of and")
    for one in tuned.attempts:
        assert one.scores.harmonic == pytest.approx(judge.harmonic(one.options), abs=1e-4)


@pytest.mark.parametrize("images", [6, 9, 13])
def test_the_budget_of_pictures_is_kept(tiny_base, concepts, images):
    composition = compose(parse_prompt("a teddy* on a teapot*"), concepts, tiny_base)
    references = {"teddy": own(1), "teapot": own(2)}
    tuned = tune(tiny_base, composition, on(concepts), REQUEST, references, {}, images=images)
    assert tuned.drawn <= images
    assert tuned.after.seeds == tuned.before.seeds == 2
    assert tuned.after.scores.harmonic >= tuned.before.scores.harmonic
    assert len(tuned.pictures) == 2


def test_what_cannot_be_tuned_is_told(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy*"), concepts, tiny_base)

    def tried(composition=composition, space=SPACE, images=50):
        tune(tiny_base, composition, on(concepts), REQUEST, {"teddy": own(1)}, space, images=images)

    with pytest.raises(PerfError, match="calls no concept to tune"):
        tried(compose(parse_prompt("a hat"), {}, tiny_base))
    with pytest.raises(PerfError, match="5 pictures are too few"):
        tried(images=5)
    with pytest.raises(PerfError, match="none of these concepts has a residual"):
        tried(space={"residual": (0.5,)})
    with pytest.raises(PerfError, match="none of the locks"):
        tried(space={"key_lock": ("none",)})


@pytest.fixture
def perf(project, monkeypatch):
    monkeypatch.chdir(project.root)
    recipe = project.root / "recipes" / "teddy.toml"
    recipe.write_text(recipe.read_text().replace('"*.png"', '"own/*.png"'))
    (project.root / "recipes" / "own").mkdir()
    for number in range(2):
        noise = Image.effect_noise((64, 64), 50 + number).convert("RGB")
        noise.save(project.root / "recipes" / "own" / f"{number}.png")

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    run.root = project.root
    return run


QUICK = ("--bias", "0.2,0.9", "--temperature", "0.1", "--lock", "local", "--seeds", 1, "--steps", 1)


def test_a_scene_is_tuned_and_written_with_its_comments(perf):
    manifest = perf.root / "perfusion.toml"
    manifest.write_text(
        manifest.read_text() + '\n[scenes.alone] # quiet\nprompt = "oil painting of the teddy*"\n'
    )
    before = manifest.read_text()
    said = json.loads(perf("tune", "--scene", "alone", *QUICK, "--dry-run", "--json").stdout)
    assert (said["schema"], said["written"], said["drawn"]) == ("perf.tune/1", False, 4)
    assert manifest.read_text() == before

    told = perf("tune", "--scene", "alone", *QUICK, "--sheet", "sheet.png")
    assert "choices tried with 4 pictures" in told.stdout
    assert "Wrote scene alone" in told.stdout
    with Image.open(perf.root / "sheet.png") as sheet:
        assert sheet.width > 64
    chosen = said["after"]["gates"]["teddy"]
    scene = read_manifest(manifest).scenes["alone"]
    assert scene.gates["teddy"].model_dump(exclude_none=True) == chosen
    assert "[scenes.alone] # quiet" in manifest.read_text()
    (composed,) = json.loads(perf("compose", "--scene", "alone", "--json").stdout)["concepts"]
    assert {key: composed[key] for key in chosen} == chosen
    assert said["after"]["harmonic"] == max(row["harmonic"] for row in said["tried"]) > 0


def test_a_prompt_is_tuned_and_may_become_a_scene(perf):
    told = perf("tune", "a teddy* in the snow", *QUICK)
    assert "To keep it, name a scene" in told.stdout
    perf("tune", "a teddy*{temperature=.3} in the snow", *QUICK, "--scene", "snow day")
    scene = read_manifest(perf.root / "perfusion.toml").scenes["snow day"]
    assert scene.prompt == "a teddy* in the snow"
    assert scene.gates["teddy"].key_lock is not None


def test_a_concept_of_a_file_is_tuned_against_the_pictures_of_its_recipe(perf, concepts):
    """With the strength of its residual, by which the rest was chosen, in the scene."""
    made = concepts["hugsy"].artifact
    card = made.card.model_copy(update={"name": "teddy"})
    (perf.root / "soft.safetensors").write_bytes(save_artifact(Artifact(card, made.tensors)))
    (perf.root / "new.safetensors").write_bytes(save_artifact(made))
    asked = ("tune", "a teddy* in the snow", *QUICK, "--scene", "soft", "--with", "soft.safetensors")
    told = perf(*asked, "--residual", "0.25,1.5")
    assert "perf render --scene soft --with soft.safetensors" in told.stdout
    gate = read_manifest(perf.root / "perfusion.toml").scenes["soft"].gates["teddy"]
    assert gate.residual in (0.25, 1.0, 1.5)
    (composed,) = json.loads(
        perf("compose", "--scene", "soft", "--with", "soft.safetensors", "--json").stdout
    )["concepts"]
    assert composed["residual"] == gate.residual
    unknown = perf("tune", "a hugsy*", *QUICK, "--with", "new.safetensors", code=2)
    assert "the project has no recipe" in " ".join(unknown.stderr.split())


def test_mistakes_are_told_before_a_base_is_loaded(perf):
    for arguments, told in {
        ("a teddy*", "--lock", "loose"): "no key lock",
        ("a teddy*", "--bias", "high"): "not a number",
        ("a teddy*", "--residual", "teddy=.5"): "not a number",
        ("a teddy*", "--scene", "pack/scene"): "belongs to a scene pack",
        ("--scene", "nowhere"): "no scene 'nowhere' yet",
        ("a teddi*",): "no concept",
        (): "no prompt",
    }.items():
        result = perf("tune", *arguments, code=2)
        assert told in " ".join(result.stderr.split()).replace("There is", "there is"), result.stderr
