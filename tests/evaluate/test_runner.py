"""A whole evaluation on the tiny base: results, cache, killed runs, processes."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from perfusion_registry.artifact import Store, load_artifact
from perfusion_registry.base import describe_base
from perfusion_registry.base.pixels import Preprocessing
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.preparing import Workplace, ahead, prepared
from perfusion_registry.evaluate.results import read_results
from perfusion_registry.evaluate.runner import evaluate
from perfusion_registry.evaluate.suite import read_suite
from perfusion_registry.reporter import Silent
from tests.evaluate.conftest import TRAIN, Smoke
from tests.tiny import fine_tuned


class Counting(Silent):
    """Keeps the total of every stage, and what was counted in it."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}

    @contextmanager
    def stage(self, title, total=None, then=0.0):
        counts = self.stages.setdefault(title.split()[0], [total, 0])

        class Counted:
            def advance(self, steps=1, note=""):
                counts[1] += steps

        yield Counted()


@pytest.fixture(scope="module")
def results(smoke: Smoke):
    return evaluate(smoke.suite, smoke.path, smoke.place())


def test_progress_counts_a_picture_that_figures_share_once(smoke: Smoke, tmp_path) -> None:
    progress, place = Counting(), Workplace(tmp_path / "store", tmp_path / "out", "cpu", "float32")
    budget = Budget(concepts=1, prompts=1)
    made = evaluate(smoke.suite, smoke.path, place, figures=["6", "A.1"], budget=budget, reporter=progress)
    drawn = len(list((place.root / "evaluation" / "pictures").rglob("*.png")))
    assert drawn < len(made.images)
    assert progress.stages["Drawing"] == [drawn, drawn]
    assert progress.stages["Building"] == [2, 2]


def test_every_cell_has_its_pictures(smoke: Smoke, results) -> None:
    # figure 6: (2 biases + words) x (2 x 3 scenes + 1) x 2 seeds; A.1: 2 + words; 5: Eq. 4 and words
    counts = {
        name: sum(record.figure == name for record in results.images) for name in ("6", "A.1", "5", "12")
    }
    assert counts == {"6": 3 * 7 * 2, "A.1": 3 * 3 * 2, "5": 2 * 2, "12": 0}
    out = smoke.place().out
    for record in results.images:
        assert (out / record.picture).is_file()
        assert record.attention is None or (out / record.attention).is_file()
    assert all((out / image).is_file() for one in results.concepts for image in one.images)


def test_scores_are_those_that_the_figure_asks_for(results) -> None:
    for record in results.images:
        if record.figure == "6" and record.method == "perfusion":
            asked = {"image", "text", "leakage"} | ({"scene"} if "the" in record.template else set())
            assert set(record.metrics) == asked
            assert 0 <= record.metrics["leakage"] <= 1
        if record.figure == "5":
            assert set(record.metrics) == {"both", "text", "image"}


def test_similarities_are_clips_of_section_5(smoke: Smoke, results, tiny_base_folder) -> None:
    """Image: the mean over pairs with the concept's images. Text: to the prompt without the concept."""
    model = CLIPModel.from_pretrained(tiny_base_folder / "clip").eval()
    tokenizer = CLIPTokenizer.from_pretrained(tiny_base_folder / "clip")
    out = smoke.place().out

    def pixels(paths):
        rows = [torch.from_numpy(np.array(Image.open(path).convert("RGB"))) for path in paths]
        return Preprocessing.clip(32)(torch.stack(rows).permute(0, 3, 1, 2).float() / 255)

    def features(paths, text):
        with torch.no_grad():
            seen = model(**tokenizer([text], return_tensors="pt"), pixel_values=pixels(paths))
        return seen.image_embeds, seen.text_embeds[0]

    judged = [r for r in results.images if r.figure == "6" and r.seed == 1]
    own = {one.name: [out / image for image in one.images] for one in results.concepts}
    for record in judged:
        (name,) = record.concepts
        image, text = features([out / record.picture], " ".join(record.template.replace("{}", " ").split()))
        others, _ = features(own[name], "none")
        assert record.metrics["image"] == pytest.approx(float((image @ others.T).mean()), abs=2e-4)
        assert record.metrics["text"] == pytest.approx(float(image[0] @ text), abs=2e-4)


def test_the_words_alone_are_their_own_measure(results) -> None:
    figure = next(figure for figure in results.figures if figure.id == "6")
    words = next(point for point in figure.points if point.label == "supercategory")
    assert words.metrics["text_normalised"].value == pytest.approx(1)
    assert words.metrics["text_normalised"].low == pytest.approx(1)
    assert "leakage" not in words.metrics
    assert figure.best is not None
    assert set(figure.best.choice) == {"bear", "jug"}


def test_the_mean_is_balanced_over_classes(results) -> None:
    figure = next(figure for figure in results.figures if figure.id == "6")
    point = next(point for point in figure.points if point.label == "local@0.5")
    rows = [r for r in results.images if r.figure == "6" and r.point == "local@0.5"]
    by_class = {}
    for name in ("bear", "jug"):
        mine = [r.metrics["image"] for r in rows if r.concepts == (name,) and r.shape_preserving]
        assert len(mine) == 6
        by_class[name] = sum(mine) / 6
        assert point.classes[name]["image"] == pytest.approx(by_class[name], abs=1e-4)
    assert point.metrics["image"].value == pytest.approx(sum(by_class.values()) / 2, abs=1e-4)
    assert point.metrics["image"].low <= point.metrics["image"].value <= point.metrics["image"].high


def test_a_figure_whose_base_is_not_named_is_left_out(results) -> None:
    figure = next(figure for figure in results.figures if figure.id == "12")
    assert "ink" in figure.left_out
    assert not figure.points


def test_concepts_of_the_plain_base_are_drawn_unchanged_by_a_fine_tuned_one(
    smoke: Smoke, results, tiny_base_folder, tmp_path
) -> None:
    tuned = fine_tuned(tiny_base_folder, tmp_path / "tuned")
    suite = smoke.suite.model_copy(update={"bases": {"ink": str(tuned)}})
    plan, _ = prepared(suite, smoke.path, smoke.place(), figures=["12", "5"])
    assert ahead(plan, smoke.root / "store").builds[0] == 0
    there = evaluate(suite, smoke.path, smoke.place("tuned"), figures=["12", "5"])
    assert there.environment.bases == {"ink": describe_base(str(tuned)).digest}
    sha256 = {(one.figure, one.name): one.sha256 for one in there.concepts}
    assert sha256["12", "bear"] == sha256["5", "bear"]
    pictures = {r.figure: r.picture for r in there.images if r.method == "perfusion" and r.seed == 0}
    drawn = [np.array(Image.open(smoke.root / "tuned" / pictures[name]), dtype=int) for name in ("12", "5")]
    assert (drawn[0] != drawn[1]).mean() > 0.1


def test_the_training_at_one_index_is_another_concept(results) -> None:
    sha256 = {(one.variant, one.name): one.sha256 for one in results.concepts}
    assert sha256["one token", "bear"] == sha256["Eq. 1", "bear"]
    assert sha256["one token", "bear"] != sha256["local", "bear"]
    assert sha256["Eq. 4", "bear"] == sha256["local", "bear"]


def test_a_second_run_has_nothing_to_do_and_the_same_results(smoke: Smoke, results) -> None:
    plan, _ = prepared(smoke.suite, smoke.path, smoke.place())
    left = ahead(plan, smoke.root / "store")
    assert (left.builds[0], left.pictures[0]) == (0, 0)
    again = evaluate(smoke.suite, smoke.path, smoke.place("again"))
    assert again.to_json() == results.to_json()
    assert read_results(smoke.root / "again" / "results.json") == results


def test_what_is_lost_is_drawn_again(smoke: Smoke, results) -> None:
    record = next(r for r in results.images if r.figure == "A.1" and r.method == "rome")
    name = record.picture.split("/")[-1]
    path = smoke.root / "store" / "evaluation" / "pictures" / name[:2] / name
    before = np.array(Image.open(path), dtype=int)
    path.unlink()
    plan, _ = prepared(smoke.suite, smoke.path, smoke.place())
    assert ahead(plan, smoke.root / "store").pictures[0] == 1
    evaluate(smoke.suite, smoke.path, smoke.place("third"), figures=["A.1"])
    # Drawn alone instead of with its batch: kernels may round by a level of colour, and no more.
    assert abs(np.array(Image.open(path), dtype=int) - before).max() <= 1


def test_a_budget_shrinks_and_says_so(smoke: Smoke, results) -> None:
    budget = Budget(concepts=1, prompts=1, seeds=1)
    small = evaluate(smoke.suite, smoke.path, smoke.place("small"), figures=["6"], budget=budget)
    assert {record.concepts for record in small.images} == {("bear",)}
    assert len(small.images) == 3 * 2  # three points, one prompt of each group
    said = json.loads((smoke.root / "small" / "results.json").read_text())
    assert said["budget"] == {"concepts": 1, "prompts": 1, "seeds": 1, "steps": None, "train_steps": None}
    assert said["suite"]["render"]["seeds"] == 2


def test_an_unknown_figure_names_those_there_are(smoke: Smoke) -> None:
    with pytest.raises(PerfError, match="no figure '99'") as error:
        prepared(smoke.suite, smoke.path, smoke.place(), figures=["99"])
    assert "A.1" in (error.value.hint or "")


def test_results_of_another_version_are_refused(smoke: Smoke, results, tmp_path) -> None:
    said = json.loads(results.to_json())
    said["schema_version"] = 2
    path = tmp_path / "results.json"
    path.write_text(json.dumps(said))
    with pytest.raises(PerfError, match="schema_version"):
        read_results(path)


def test_a_suite_names_the_method_of_its_concepts(smoke: Smoke, results, tmp_path) -> None:
    """Textual inversion beside perfusion, in one figure: other tensors, other pictures, no gates, and in the
    keys nothing that it does not have."""
    text = smoke.path.read_text()
    rivals = f"""
[[figures]]
id = "rivals"
title = "Rivals"
prompts = ["scenes"]
concepts = ["bear"]
metrics = ["image", "text"]
[[figures.variants]]
name = "Eq. 4"
{TRAIN}
[[figures.variants]]
name = "one word"
method = "textual-inversion"
{TRAIN.replace("steps = 1,", "steps = 1, learning_rate = 0.5,", 1)}
[[figures.variants]]
name = "one word, slowly"
method = "textual-inversion"
{TRAIN}
"""
    path = smoke.root / "rivals.toml"
    path.write_text(text + rivals)
    suite = read_suite(path)
    made = evaluate(suite, path, smoke.place("rivals"), figures=["rivals"])
    sha256 = {one.variant: one.sha256 for one in made.concepts}
    assert len(set(sha256.values())) == 3
    assert sha256["Eq. 4"] in {one.sha256 for one in results.concepts if one.name == "bear"}
    store = Store(smoke.root / "store")
    card = load_artifact(store.get(sha256["one word"])).card
    assert (card.method, card.covariance, card.supercategory) == ("textual-inversion", None, "teddy")
    assert card.train.model_dump()["learning_rate"] == 0.5
    assert set(load_artifact(store.get(sha256["one word"])).tensors) == {"embedding"}
    drawn = {r.variant: r.picture for r in made.images if r.seed == 0 and r.template == "a photo of a {}"}
    pixels = [np.asarray(Image.open(smoke.root / "rivals" / picture)) for picture in drawn.values()]
    assert len(pixels) == 3
    assert not np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[1], pixels[2])
    assert {table.point for table in made.gates} == {"Eq. 4"}
