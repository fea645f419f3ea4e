"""A build ends with a verdict and a sheet, which the card, the store, `info` and `--strict` know."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import perfusion_registry as perf
from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.artifact.card import before_shows, before_verdicts
from perfusion_registry.artifact.pruning import prune
from perfusion_registry.artifact.verdict import Judgement, Verdict
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.base.bounds import BOUNDS_FILE, BaseBounds
from perfusion_registry.build.unlike import drawability
from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.cli import app
from perfusion_registry.cli.style import rated
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.concept_builder import BuiltConcept
from perfusion_registry.operations.judging import look_at_pictures, own_pictures
from perfusion_registry.operations.rebuild import RebuildOptions, rebuild
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.storybook.judging import WORLD
from perfusion_registry.verdict import judge_concept
from perfusion_registry.verdict.gates import WidestGate, widest_elsewhere
from perfusion_registry.verdict.measuring import Attempted, LikenessToOwn
from perfusion_registry.verdict.sentence import Found, sentence
from perfusion_registry.verdict.sheet import read_sheet, renamed_sheet
from perfusion_registry.verdict.subject import Trained
from tests.operations.conftest import edit

ON_THE_CPU = ComputeOptions(device="cpu")


def built(project: Path, **options: bool) -> BuiltConcept:
    with Workspace.open(project) as workspace:
        (row,) = build(workspace, BuildOptions(compute=ON_THE_CPU, **options)).built
    return row


def heading(sheet: Path) -> np.ndarray:
    """The title of a sheet: there are no pictures beside it."""
    with Image.open(sheet) as image:
        return np.asarray(image.convert("L"), "f4")[:96]


def with_residual(project: Path, extra: str = "") -> None:
    recipe = project / "recipes" / "bear.toml"
    edit(recipe, "[train]\nsteps = 1\n", "[train]\nsteps = 1\nresidual_rank = 0.2\n")
    recipe.write_text(recipe.read_text(encoding="utf-8") + extra, encoding="utf-8")


def test_the_card_has_the_verdict_and_the_store_the_sheet(project: Path) -> None:
    row = built(project)
    assert row.verdict is not None
    assert row.verdict.told is not None  # the tiny base has a CLIP model
    assert row.verdict.quiet is not None
    assert row.verdict.alike is None  # and nothing was measured of its pictures
    assert "from a plain teddy" in row.verdict.sentence
    assert {"image_plain", "image_self"} <= row.scores.keys()
    assert row.sheet == str(Path("renders") / "bear-1.0.0-sheet.jpg")
    with Image.open(row.sheet) as sheet:
        assert sheet.format == "JPEG"
    with Workspace.open(project) as workspace:
        assert load_artifact(workspace.store.get(row.sha256)).card.verdict == row.verdict
        store = workspace.store
    prune(store.root)
    assert store.sheet_path(row.sha256).is_file()  # it is locked, and so is its sheet
    (project / "perfusion.lock").unlink()
    prune(store.root)
    assert not store.sheet_path(row.sha256).is_file()


def test_info_shows_both(project: Path) -> None:
    row = built(project)
    assert row.verdict is not None
    said = CliRunner().invoke(app, ["info", "bear", "--json"])
    told = json.loads(said.stdout)
    assert told["verdict"]["sentence"] == row.verdict.sentence
    assert Path(told["sheet"]).read_bytes() == Path(row.sheet or "").read_bytes()
    shown = CliRunner().invoke(app, ["info", "bear"]).stdout
    assert row.verdict.in_words in shown
    assert "{" not in shown
    (facts,) = json.loads(CliRunner().invoke(app, ["metadata", "--format-version", "1"]).stdout)["concepts"]
    assert (facts["verdict"], facts["sheet"]) == (told["verdict"], told["sheet"])


def test_what_was_learned_under_another_name_is_taken_and_told(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sheet and its verdict call it by its own name, as if it had been learned under it."""
    bear = project / "recipes" / "bear.toml"
    bear.write_text(bear.read_text(encoding="utf-8") + "\n[render]\nbias = 0.0\n", encoding="utf-8")
    before = built(project)
    assert before.verdict is not None
    assert "bear*" in before.verdict.sentence  # in the prompt where its gate opens
    recipe = project / "recipes" / "bear.toml"
    text = recipe.read_text(encoding="utf-8")
    (project / "recipes" / "cub.toml").write_text(text.replace('name = "bear"', 'name = "cub"'), "utf-8")
    edit(project / "perfusion.toml", "[concepts]\n", '[concepts]\ncub = { recipe = "recipes/cub.toml" }\n')
    said = CliRunner().invoke(app, ["build", "--device", "cpu"])
    assert said.exit_code == 0, said.output
    assert "cub: what its recipe asks for was learned before, as bear" in " ".join(said.stderr.split())
    with Workspace.open(project) as workspace:
        locked = {block.name: block.sha256 for block in workspace.read().lockfile.concepts}
        taken = load_artifact(workspace.store.get(locked["cub"])).card.verdict
    assert locked["cub"] != locked["bear"] == before.sha256
    cub = tmp_path / "as-taken.jpg"
    (project / "renders" / "cub-1.0.0-sheet.jpg").rename(cub)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "empty"))
    with Workspace.open(project) as workspace:
        (learned,) = build(workspace, BuildOptions(names=("cub",), force=True, compute=ON_THE_CPU)).built
    assert (learned.trained, learned.sha256) == (True, locked["cub"])
    assert learned.verdict == taken
    anew = heading(Path(learned.sheet or ""))
    assert np.abs(heading(cub) - anew).max() < 40  # but for what a JPEG loses
    assert np.abs(heading(Path(before.sheet or "")) - anew).max() > 150  # it says another name


def test_a_sheet_takes_the_place_of_an_earlier_one_and_of_no_other_file(project: Path) -> None:
    renders, recipe = project / "renders", project / "recipes" / "bear.toml"
    renders.mkdir()
    first, second, third = (renders / f"bear-1.0.0-sheet{end}.jpg" for end in ("", "-2", "-3"))
    first.write_bytes(b"drawn by hand")
    assert Path(built(project).sheet or "") == Path("renders") / second.name
    before = second.read_bytes()
    edit(recipe, "[train]\n", "[train]\nseed = 7\n")
    assert Path(built(project).sheet or "").name == second.name
    assert second.read_bytes() != before
    # The sheet of another concept, too, is another file.
    second.write_bytes(renamed_sheet(second, "cub", None))
    edit(recipe, "seed = 7", "seed = 8")
    assert Path(built(project).sheet or "").name == third.name
    record = read_sheet(second)
    assert record is not None
    assert record.name == "cub"
    assert first.read_bytes() == b"drawn by hand"


def test_a_bad_verdict_is_a_warning_and_strict_fails(project: Path) -> None:
    """A gate of bias 0 is open by half or more wherever a word is similar at all."""
    recipe = project / "recipes" / "bear.toml"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(f"{text}\n[render]\nbias = 0.0\n", encoding="utf-8")
    said = CliRunner().invoke(app, ["build", "--device", "cpu", "--strict"])
    assert said.exit_code == 1, said.output
    everything = " ".join(said.output.split())
    assert "its gate opens by" in " ".join(said.stderr.split())
    assert everything.count("its gate opens by") == 1  # the warning has told it, the table does not again
    assert "verdict is not good for `bear`" in " ".join(said.stderr.split())
    rating = "poor" if "hardly told" in everything else "fair"
    assert f"bear {rating}: see the warning above" in everything
    again = CliRunner().invoke(app, ["build", "--strict"])  # up to date, and no better
    assert again.exit_code == 1
    drawn = CliRunner().invoke(app, ["compose", "a bear* and a bear*"])
    assert " ".join(drawn.stderr.split()).count(f"bear* was judged {rating} when it was built") == 1
    recipe.write_text(recipe.read_text(encoding="utf-8") + "temperature = 0.2\n", encoding="utf-8")
    table = CliRunner().invoke(app, ["build"])  # no training and no warning, so the table tells
    assert "its gate opens by" in " ".join(table.stdout.split())
    assert CliRunner().invoke(app, ["build"]).exit_code == 0


def test_a_gate_that_opens_at_padding_is_told(project: Path, tiny_base: Base) -> None:
    """Planted: the input that the concept's dual answers to is that of the padding."""
    row = built(project)
    with Workspace.open(project) as workspace:
        artifact = load_artifact(workspace.store.get(row.sha256))
    padding = tiny_base.encode([tiny_base.tokenise(["a photo of a bear"])], length=tiny_base.text_length)
    e = padding.states[0, -1].detach().clone()
    tensors = artifact.tensors | {"target_input": e, "target_input_dual": e / (e @ e)}
    planted = Artifact(artifact.card.model_copy(update={"verdict": None}), tensors)
    widest = widest_elsewhere(Trained(tiny_base, planted, planted.card.train), ["a photo of a {}"])
    assert widest is not None
    assert widest.gate > 0.5
    own = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    judged = judge_concept(tiny_base, planted, own, BaseBounds())
    assert judged.verdict.failed[-1] == "quiet"
    assert "its gate opens by" in judged.verdict.sentence


def test_a_build_chooses_the_strength_and_gives_way_to_the_recipe(project: Path) -> None:
    with_residual(project)
    row = built(project)
    best = row.scores["residual"]
    assert row.card.render.model_dump()["residual"] == best
    lockfile = project / "perfusion.lock"
    block = read_lockfile(lockfile).concept("bear")
    assert block is not None
    assert block.render.get("residual", best) == best  # format 1 leaves it to the card
    with Workspace.open(project) as workspace:
        assert build(workspace, BuildOptions(locked=True)).built == ()
    # Said by the recipe, even as it is by default: the tensors stay, and the card says it.
    recipe = project / "recipes" / "bear.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8") + "\n[render]\nresidual = 0.3\n", encoding="utf-8")
    said = built(project)
    assert not said.trained
    assert said.card.render.model_dump()["residual"] == 0.3
    assert (said.verdict, said.scores["residual"]) == (row.verdict, best)
    edit(recipe, "\n[render]\nresidual = 0.3\n", "")
    with Workspace.open(project) as workspace:
        assert build(workspace, BuildOptions()).built == ()  # the first is in the store
    block = read_lockfile(lockfile).concept("bear")
    assert block is not None
    assert block.sha256 == row.sha256


def test_the_same_value_said_or_left_to_the_build_are_two_things(project: Path) -> None:
    """The key of a build has the resolved value, which is the same; what was chosen is not."""
    with_residual(project)
    row = built(project)
    with Workspace.open(project) as workspace:
        artifact = load_artifact(workspace.store.get(row.sha256))
        usual = 1.0
        scores = artifact.card.scores | {"residual": 0.4}
        render = artifact.card.render.model_copy(update={"residual": 0.4})
        chosen = artifact.card.model_copy(update={"scores": scores, "render": render})
        sha256 = workspace.store.put(save_artifact(Artifact(chosen, artifact.tensors)))
        block = read_lockfile(project / "perfusion.lock").concept("bear")
        assert block is not None
        assert block.recipe_digest is not None
        workspace.store.record(block.recipe_digest, sha256)
        (project / "perfusion.lock").unlink()
        build(workspace, BuildOptions())
        block = read_lockfile(project / "perfusion.lock").concept("bear")
        assert block is not None
        assert block.sha256 == sha256
        recipe = project / "recipes" / "bear.toml"
        said = recipe.read_text(encoding="utf-8") + f"\n[render]\nresidual = {usual}\n"
        recipe.write_text(said, encoding="utf-8")
        (again,) = build(workspace, BuildOptions()).built
        assert (again.trained, again.reason) == (False, "render options changed")
        assert again.card.render.model_dump()["residual"] == usual
        assert build(workspace, BuildOptions(locked=True)).built == ()


def test_a_pinned_artifact_without_a_verdict_is_built_again_to_the_byte(
    project: Path,
) -> None:
    with_residual(project)
    row = built(project)
    lockfile = project / "perfusion.lock"
    with Workspace.open(project) as workspace:
        artifact = load_artifact(workspace.store.get(row.sha256))
        usual = artifact.card.render.model_copy(update={"residual": 1.0})
        older = save_artifact(Artifact(before_verdicts(artifact.card, usual), artifact.tensors))
        digest = workspace.store.put(older)
        text = lockfile.read_text(encoding="utf-8").replace(row.sha256, digest)
        text = text.replace(f"size = {row.size}", f"size = {len(older)}")
        text = text.replace(f"render.residual = {row.scores['residual']}", "render.residual = 1.0")
        lockfile.write_text(text, encoding="utf-8")
        (again,) = rebuild(workspace, RebuildOptions(compute=ON_THE_CPU)).rebuilt
    assert (again.same_bytes, again.sha256) == (True, digest)


def test_a_rebuild_takes_the_chosen_strength_for_a_score(project: Path) -> None:
    with_residual(project)
    row = built(project)
    lockfile = project / "perfusion.lock"
    with Workspace.open(project) as workspace:
        artifact = load_artifact(workspace.store.get(row.sha256))
        scores = artifact.card.scores | {"residual": 0.123}
        render = artifact.card.render.model_copy(update={"residual": 0.123})
        other = Artifact(
            artifact.card.model_copy(update={"scores": scores, "render": render}), artifact.tensors
        )
        data = save_artifact(other)
        digest = workspace.store.put(data)
        text = lockfile.read_text(encoding="utf-8").replace(row.sha256, digest)
        text = text.replace(f"size = {row.size}", f"size = {len(data)}")
        text = text.replace(f"render.residual = {row.scores['residual']}", "render.residual = 0.123")
        lockfile.write_text(text, encoding="utf-8")
        (again,) = rebuild(workspace, RebuildOptions(compute=ON_THE_CPU)).rebuilt
    assert (again.same_bytes, again.wrong, again.distance) == (False, (), 0.0)


def test_programs_build_with_a_verdict_too(project: Path) -> None:
    (row,) = perf.open(project).build(device="cpu").built
    assert row.verdict is not None


def test_pictures_unlike_what_the_base_draws_are_told(project: Path, tiny_base_folder: Path) -> None:
    """By a base that was measured, when they are added and before they are learned; others say nothing."""
    own = project / "own-base"
    shutil.copytree(tiny_base_folder, own)
    bounds = "[pictures]\nloss = {}\npsnr = -100.0\nlevels = [0.1, 0.25]\n"
    (own / BOUNDS_FILE).write_text(bounds.format("1e-9"), encoding="utf-8")
    edit(project / "perfusion.toml", str(tiny_base_folder), str(own))
    words = ["--super", "teddy", "--images", "photos/*"]
    added = CliRunner().invoke(app, ["add", "other", *words])
    assert added.exit_code == 0, added.output
    assert "take a base for photographs" in " ".join(added.stderr.split())
    (project / "words.txt").write_text("teddy\ncat\n", encoding="utf-8")
    asked = CliRunner().invoke(app, ["suggest-super", "photos", "--words", "words.txt"])
    assert "these pictures are unlike what the base" in " ".join(asked.stderr.split())
    said = CliRunner().invoke(app, ["build", "bear", "--device", "cpu"])
    assert said.exit_code == 0, said.output
    assert "bear: its pictures are unlike what the base" in " ".join(said.stderr.split())
    assert "bear is poor: its pictures are unlike what this base can draw" in " ".join(said.stderr.split())
    (own / BOUNDS_FILE).write_text(bounds.format("1e9"), encoding="utf-8")
    assert "photographs" not in CliRunner().invoke(app, ["add", "third", *words]).stderr
    asked = CliRunner().invoke(app, ["suggest-super", "photos", "--words", "words.txt"])
    assert asked.exit_code == 0, asked.output
    assert "photographs" not in asked.stderr


def test_a_recipe_of_no_thing_that_the_base_draws_is_refused_before_training(
    project: Path, tiny_base_folder: Path
) -> None:
    """Though the vocabulary has its word: a recipe may be written by hand."""
    own = project / "own-base"
    shutil.copytree(tiny_base_folder, own)
    (own / BOUNDS_FILE).write_text('things = ["cat", "dog"]\nwords = ["a", "cat", "dog"]\n', encoding="utf-8")
    edit(project / "perfusion.toml", str(tiny_base_folder), str(own))
    said = CliRunner().invoke(app, ["build", "bear", "--device", "cpu"])
    assert said.exit_code == 2, said.output
    assert "supercategory `teddy` is no thing that this base draws" in " ".join(said.stderr.split())
    assert "this base draws cat, dog" in " ".join(said.stderr.split())
    edit(project / "recipes" / "bear.toml", 'supercategory = "teddy"', 'supercategory = "Cat"')
    assert CliRunner().invoke(app, ["build", "bear", "--device", "cpu"]).exit_code == 0


def of_the_drawn_world(project: Path, tiny_base_folder: Path, one: str) -> None:
    """The project on a base that the drawn world's recogniser judges, with pictures of one of its cast."""
    own = project / "own-base"
    shutil.copytree(tiny_base_folder, own)
    (own / BOUNDS_FILE).write_text('world = "storybook"\n', encoding="utf-8")
    edit(project / "perfusion.toml", str(tiny_base_folder), str(own))
    for number, pixels in enumerate(WORLD.images(one)[:3], 1):
        picture = (pixels * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(picture).save(project / "photos" / f"{number}.png")


def test_a_wrong_word_is_told_from_pictures_that_the_base_cannot_draw(
    project: Path, tiny_base_folder: Path
) -> None:
    """Its denoiser errs more on them under the wrong word, too."""
    of_the_drawn_world(project, tiny_base_folder, "teapot")
    own, things = project / "own-base", ("teddy", "cat", "teapot")
    levels = (0.5, 0.7)
    base = load_base(describe_base(str(own)), "cpu")
    pictures = own_pictures(base, sorted((project / "photos").glob("*.png")))
    errs = {word: float(drawability(base, pictures, word, levels).loss.mean()) for word in things}
    wrong = max(("teddy", "cat"), key=errs.__getitem__)
    between, below = (errs[wrong] + errs["teapot"]) / 2, min(errs.values()) / 2
    assert errs[wrong] > between
    for bound, told in ((between, f"hardly show a {wrong}"), (below, "unlike what")):
        (own / BOUNDS_FILE).write_text(
            f'world = "storybook"\nthings = {list(things)}\nwords = ["a"]\n[pictures]\n'
            f"loss = {bound}\npsnr = -100.0\nlevels = {list(levels)}\n",
            encoding="utf-8",
        )
        doubt = look_at_pictures(load_base(describe_base(str(own)), "cpu"), pictures, wrong).doubt
        assert doubt is not None
        assert told in doubt


def test_pictures_of_another_noun_are_told_before_they_are_learned_and_after(
    project: Path, tiny_base_folder: Path
) -> None:
    of_the_drawn_world(project, tiny_base_folder, "teapot")
    added = CliRunner().invoke(app, ["add", "other", "--super", "teddy", "--images", "photos/*"])
    assert "hardly show a teddy (seen in 0% of them)" in " ".join(added.stderr.split())
    said = CliRunner().invoke(app, ["build", "bear", "--device", "cpu", "--strict"])
    assert said.exit_code == 1, said.output
    told = " ".join(said.stderr.split())
    assert told.index("bear: its pictures hardly show a teddy") < told.index("bear: training")
    assert "bear is poor: its pictures hardly show a teddy" in told
    shown = CliRunner().invoke(app, ["add", "pot", "--super", "teapot", "--images", "photos/*"])
    assert "hardly" not in shown.stderr


def test_pictures_of_the_noun_are_not_told_and_older_cards_stay(
    project: Path, tiny_base_folder: Path
) -> None:
    of_the_drawn_world(project, tiny_base_folder, "teddy")
    row = built(project)
    assert row.verdict is not None
    assert row.verdict.shows == Judgement(passed=True, value=1.0)
    assert "hardly show" not in row.verdict.sentence
    with Workspace.open(project) as workspace:
        artifact = load_artifact(workspace.store.get(row.sha256))
        older = save_artifact(Artifact(before_shows(artifact.card), artifact.tensors))
        assert b"shows" not in older
        digest = workspace.store.put(older)
        lockfile = project / "perfusion.lock"
        text = lockfile.read_text(encoding="utf-8").replace(row.sha256, digest)
        text = text.replace(f"size = {row.size}", f"size = {len(older)}")
        lockfile.write_text(text, encoding="utf-8")
        (again,) = rebuild(workspace, RebuildOptions(compute=ON_THE_CPU)).rebuilt
    assert (again.same_bytes, again.sha256) == (True, digest)


PASSED, FAILED = Judgement(passed=True, value=0.6), Judgement(passed=False, value=0.6)
ATTEMPTED = Attempted({"residual": 0.7}, LikenessToOwn(0.5, 0.1, 0.9), 1.0, torch.zeros(1))
GOOD = Found(
    name="bear",
    word="teddy",
    judge="the recogniser",
    measured=ATTEMPTED,
    **dict.fromkeys(("told", "obeys", "quiet", "alike", "shows"), PASSED),
    widest=WidestGate(0.6, "<padding>", "a bear*"),
    tried=({"residual": 0.7}, {"residual": 1.0}),
)
ALL_GOOD = (
    "It is told from a plain teddy (60 % of the way from the plain word to its own pictures, by the "
    "recogniser); places still appear (60 % as well as with the plain word); its gate opens at its own "
    "word alone (elsewhere by 0.60 at most); residual 0.7 serves it best"
)
ALL_BAD = (
    "Its pictures are unlike what this base can draw: take a base for photographs; it is hardly told "
    "from a plain teddy (60 % of the way from the plain word to its own pictures, by the recogniser): "
    "see whether the pictures show one teddy, alone and large, or train it longer; places hardly appear"
    " (60 % as well as with the plain word): a weaker residual, a higher bias or fewer steps let them; "
    'its gate opens by 0.60 at the padding in "a bear*": a higher bias closes it, or another covariance'
    " or seed; residual 0.7 serves it best"
)
OTHERS_PICTURES = (
    "Its pictures hardly show a teddy (seen in 60% of them): take the word that they show (`perf "
    "suggest-super`), or pictures of one; " + ALL_GOOD[:1].lower() + ALL_GOOD[1:]
)
PRAISE = ("it is told from", "still appear", "at its own word alone", "serves it best")
TO_DO = {
    "alike": "take a base for photographs",
    "shows": "`perf suggest-super`",
    "told": "train it longer",
    "obeys": "a weaker residual",
    "quiet": "a higher bias closes it",
}


def failing(*names: str, found: Found = GOOD) -> Found:
    return replace(found, **dict.fromkeys(names, FAILED))


def verdict_of(found: Found) -> Verdict:
    return Verdict(sentence=sentence(found), **{name: getattr(found, name) for name in TO_DO})


def test_the_words_on_the_card_are_those_of_every_perf() -> None:
    """They are in the artifact's bytes, which a lockfile pins: these are as the first verdicts had them."""
    assert sentence(GOOD) == ALL_GOOD
    assert sentence(failing(*TO_DO)) == ALL_BAD
    assert sentence(failing("shows")) == OTHERS_PICTURES
    unmeasured = replace(GOOD, **dict.fromkeys(TO_DO, None), tried=())
    assert sentence(unmeasured) == (
        "Whether it is told from a plain teddy was not measured, since the base has no CLIP model"
    )


def test_a_good_verdict_is_told_as_the_card_has_it() -> None:
    assert verdict_of(GOOD).in_words == f"good: i{sentence(GOOD)[1:]}"
    assert all(part in sentence(GOOD).lower() for part in PRAISE)


@pytest.mark.parametrize(
    ("failed", "rating"),
    [
        ((), "good"),
        (("obeys",), "fair"),
        (("quiet",), "fair"),
        (("obeys", "quiet"), "fair"),
        *(((one,), "poor") for one in ("alike", "shows", "told")),
        (("told", "obeys"), "poor"),
    ],
)
def test_a_verdict_has_a_mark_of_one_word(failed: tuple[str, ...], rating: str) -> None:
    verdict = verdict_of(failing(*failed))
    assert verdict.rating == rating
    assert verdict.in_words.startswith(f"{rating}: ")


def test_where_nobody_compares_pictures_a_verdict_has_no_mark() -> None:
    verdict = verdict_of(replace(GOOD, told=None, obeys=None))
    assert verdict.rating is None
    assert verdict.in_words == verdict.sentence
    assert verdict_of(replace(failing("quiet"), told=None)).rating == "fair"


def test_the_mark_is_told_wherever_the_verdict_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = built(project)
    assert row.verdict is not None
    rating = row.rating
    assert rating in ("good", "fair", "poor")
    for words in (["info", "bear"], ["list"], ["metadata", "--format-version", "1"]):
        said = CliRunner().invoke(app, [*words, *(["--json"] if words[0] != "metadata" else [])])
        told = json.loads(said.stdout)
        assert (told["concepts"][0] if "concepts" in told else told)["rating"] == rating
    (line,) = [one for one in CliRunner().invoke(app, ["list"]).stdout.splitlines() if "bear" in one]
    assert f" {rating} " in line
    assert f"{rating}: " in CliRunner().invoke(app, ["info", "bear"]).stdout
    plain = rated(row.verdict.in_words, styled=False)
    coloured = rated(row.verdict.in_words, styled=True)
    assert plain == row.verdict.in_words != coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert rated("a note: good", styled=True) == "a note: good"  # others' words stay as they are


@pytest.mark.parametrize("failed", [names for n in (1, 2, 3) for names in combinations(TO_DO, n)])
def test_a_bad_verdict_is_told_by_what_is_wrong_and_praises_nothing(failed: tuple[str, ...]) -> None:
    """Whatever the prompt is in which a gate opens."""
    prompt = "a bear*; places of worship; it is told"
    found = failing(*failed, found=replace(GOOD, widest=WidestGate(0.6, "<padding>", prompt)))
    said = verdict_of(found).in_words
    assert not [part for part in PRAISE if part in said.lower().replace(prompt, "")]
    told = {name for name, to_do in TO_DO.items() if to_do in said}
    assert told == set(failed) - ({"shows"} if "alike" in failed else set())  # it says why already
    assert (f'in "{prompt}": a higher' in said) == ("quiet" in failed)
    first = next(name for name in TO_DO if name in failed)
    rest = next((name for name in TO_DO if name in told - {first}), None)
    assert rest is None or said.index(TO_DO[first]) < said.index(TO_DO[rest])
    assert said.partition(": ")[0] in ("fair", "poor")


def test_a_bad_verdict_in_other_words_is_told_as_they_are() -> None:
    assert Verdict(sentence="No good.", told=FAILED).in_words == "poor: no good."


def test_scores_are_said_in_words_where_they_are_printed(project: Path) -> None:
    said = CliRunner().invoke(app, ["build", "--device", "cpu"])
    told = " ".join(said.stdout.split())
    assert "likeness" in told
    assert "to your pictures, by the base's CLIP model (the plain word reaches" in told
    assert "% as well as with the plain word" in told
    assert "they have" in told  # likeness of the pictures to each other
    assert "text" not in said.stdout.splitlines()[0]  # no column of numbers without words
    assert "`perf info NAME`" in told
