"""Suites with methods of strangers: what they set in the methods' own words, and what a report says of it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from perfusion_registry.artifact import Store, load_artifact
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.report import write_report
from perfusion_registry.evaluate.results import read_results, spoken
from perfusion_registry.evaluate.runner import evaluate
from perfusion_registry.evaluate.suite import read_suite
from perfusion_registry.file_digests import sha256_of
from tests.embedding_files import save_embedding, vectors
from tests.evaluate.conftest import TRAIN, Smoke
from tests.second_method import install_blend

QUICK = "steps = 1, validate_every = 1, validation_steps = 1"
FIGURE = f"""
[[figures]]
id = "rivals"
title = "Rivals"
prompts = ["scenes"]
concepts = ["bear"]
metrics = ["image", "text", "text_normalised", "harmonic"]
best = true
[[figures.variants]]
name = "blend"
method = "blend"
train = {{ {QUICK}, patience = 2 }}
render = {{ strength = [0.5, 2], on_side = "far" }}
[[figures.variants]]
name = "word"
method = "textual-inversion"
train = {{ {QUICK} }}
[[figures.variants]]
name = "blocks"
method = "residuals"
{TRAIN}
render = {{ residual = 0.5 }}
[[figures.variants]]
name = "lora"
method = "dreambooth-lora"
train = {{ {QUICK}, prior_pictures = 1 }}
[[figures.variants]]
name = "values"
method = "custom-diffusion"
train = {{ {QUICK}, batch = 1, prior_pictures = 1 }}
[[figures.variants]]
name = "whole"
method = "dreambooth"
train = {{ {QUICK}, prior_pictures = 1, rank = 2, text_encoder = true }}
render = {{ strength = [0, 1] }}
[[figures.variants]]
name = "preset"
{TRAIN}
render = {{ preset = "faithful" }}
[[figures.variants]]
name = "edit"
{TRAIN}
render = {{ bias = [0.5, 0.7] }}
[[figures.claims]]
text = "Stronger is nearer."
metric = "image"
better = "blend@strength=2"
than = "blend@strength=0.5"
"""
ONE = Budget(prompts=1, seeds=1)


@pytest.fixture(autouse=True)
def blend(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    site = tmp_path_factory.mktemp("site")
    install_blend(site)
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("perf_blend", None)


def written(smoke: Smoke, text: str, name: str = "rivals") -> Path:
    path = smoke.root / f"{name}.toml"
    path.write_text(smoke.path.read_text() + text)
    return path


def test_a_suite_sets_what_each_method_has_and_the_report_says_it(smoke: Smoke) -> None:
    path = written(smoke, FIGURE)
    made = evaluate(read_suite(path), path, smoke.place("rivals"), figures=["rivals"], budget=ONE)
    figure = next(figure for figure in made.figures if figure.id == "rivals")
    assert [point.label for point in figure.points if point.variant == "blend"] == [
        "blend@strength=0.5",
        "blend@strength=2",
    ]
    assert spoken("blend@strength=0.5") == "blend at strength 0.5"
    assert spoken("edit@0.5@t0.1") == "edit at 0.5 at temperature 0.1"

    # The concept is learned with the method's own options, and drawn with them.
    store = Store(smoke.root / "store")
    cards = {one.variant: load_artifact(store.get(one.sha256)).card for one in made.concepts}
    assert cards["blend"].train.model_dump()["patience"] == 2
    pictures = {record.point: record for record in made.images}
    assert pictures["blend@strength=2"].settings == {"strength": 2.0, "on_side": "far"}
    assert pictures["blend@strength=2"].picture != pictures["blend@strength=0.5"].picture
    assert pictures["whole@strength=0"].picture != pictures["whole@strength=1"].picture
    assert 0 < cards["whole"].energy < 1
    assert cards["values"].covariance is not None
    assert pictures["preset"].picture != pictures["edit@0.5"].picture  # a preset stands for options

    # Gates where there are gates; options where there are options; else nothing.
    assert {table.point for table in made.gates} == {"preset", "edit@0.5", "edit@0.7"}
    assert {one.point: one.summary for one in made.options} == {
        "blend@strength=0.5": "strength 0.5, haze 0, far side",
        "blend@strength=2": "strength 2, haze 0, far side",
        "blocks": "residual 0.5, ramp lag",
        "lora": "strength 1",
        "values": "strength 1",
        "whole@strength=0": "strength 0",
        "whole@strength=1": "strength 1",
    }
    assert figure.best is not None
    assert set(figure.best.choice.values()) <= {"blend@strength=0.5", "blend@strength=2"}
    page = write_report(made, smoke.root / "rivals").read_text(encoding="utf-8")
    assert "strength 2, haze 0, far side" in page
    assert "blend at strength 2" in page
    assert read_results(smoke.root / "rivals" / "results.json") == made


def test_a_method_without_gates_and_options_has_neither_tables_nor_a_best_point(smoke: Smoke) -> None:
    figure = FIGURE[: FIGURE.index("[[figures.variants]]")] + FIGURE.split("[[figures.variants]]\n")[2]
    path = written(smoke, figure.replace('name = "word"', '[[figures.variants]]\nname = "word"'), "alone")
    made = evaluate(read_suite(path), path, smoke.place("alone"), figures=["rivals"], budget=ONE)
    assert (made.gates, made.options) == ((), ())
    assert next(figure for figure in made.figures if figure.id == "rivals").best is None
    page = write_report(made, smoke.root / "alone").read_text(encoding="utf-8")
    assert "Gates, token by token" not in page
    assert "<summary>Options" not in page
    assert "best H" not in page


@pytest.mark.parametrize(
    ("change", "place", "told"),
    [
        (("patience = 2", "patience = 0"), "train.patience", "greater than or equal to 1"),
        (("patience = 2", "patiense = 2"), "train.patiense", "did you mean `patience`?"),
        (("patience = 2", "rank = 0.1"), "train.rank", "is no option of [train] of the method `blend`"),
        (
            ("strength = [0.5, 2]", "strenght = 2"),
            "render",
            "`strenght` is no render option of the method `blend`",
        ),
        (("strength = [0.5, 2]", "strength = [0.5, 4]"), "render", "less than or equal to 3"),
        (('on_side = "far"', 'on_side = "up"'), "render", "'up' is no side"),
        (("residual = 0.5", "bias = 0.5"), "render", "no render option of the method `residuals`"),
        (
            ('method = "textual-inversion"', 'method = "textual-inversion"\nrender = { bias = 1 }'),
            "render",
            "none",
        ),
        (("render = { residual = 0.5 }", "residual = 0.4\nrender = { residual = 0.5 }"), "", "set twice"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_key(
    smoke: Smoke, change: tuple[str, str], place: str, told: str
) -> None:
    assert FIGURE.count(change[0]) == 1
    path = written(smoke, FIGURE.replace(*change), "wrong")
    with pytest.raises(PerfError) as caught:
        read_suite(path)
    assert told in caught.value.what
    assert str(path) in str(caught.value.where)
    assert place in str(caught.value.where)


def test_a_suite_says_a_strangers_train_option_for_all_and_what_cannot_be_drawn_before_it_builds(
    smoke: Smoke,
) -> None:
    train = "\n[train]\npatience = 9\n[render]"
    text = (smoke.path.read_text() + FIGURE).replace("\n[render]", train, 1).replace(", patience = 2", "")
    path = smoke.root / "shared.toml"
    path.write_text(text)
    suite = read_suite(path)
    assert suite.train.model_dump(exclude_none=True) == {"patience": 9}
    for wrong, told in {"patience = 90": "less than or equal to 9", "patiense = 9": "any method"}.items():
        path.write_text(text.replace("patience = 9", wrong))
        with pytest.raises(PerfError, match=r"train\.pati") as caught:
            read_suite(path)
        assert told in caught.value.what
    path.write_text(text.replace("render = { bias = [0.5, 0.7] }", 'key_lock = "none"'))
    with pytest.raises(PerfError, match="no keys were trained") as caught:
        evaluate(read_suite(path), path, smoke.place("unbuilt"), figures=["rivals"])
    assert "figure rivals, edit" in str(caught.value.where)


def test_older_results_can_be_read(smoke: Smoke) -> None:
    path = written(smoke, FIGURE)
    made = evaluate(read_suite(path), path, smoke.place("rivals"), figures=["rivals"], budget=ONE)
    said = json.loads(made.to_json())
    for record in (*said["images"], *(point for figure in said["figures"] for point in figure["points"])):
        record.pop("settings", None)
    del said["options"]
    for figure in said["suite"]["figures"]:
        for variant in figure["variants"]:
            variant["train"] |= dict.fromkeys(("rank", "residual_rank", "learning_rate"))
    old = smoke.root / "old.json"
    old.write_text(json.dumps(said))
    assert read_results(old).options == ()


IMPORTED = """
[[figures]]
id = "imported"
title = "Imported"
prompts = ["scenes"]
concepts = ["bear"]
metrics = ["image", "text"]
[[figures.variants]]
name = "as it is"
method = "textual-inversion"
[[figures.variants]]
name = "the word"
method = "supercategory"
"""


def test_an_imported_textual_inversion_is_evaluated_as_it_is(smoke: Smoke, tmp_path: Path) -> None:
    """Nothing is trained, and its images are what its pictures are compared with."""
    ignored = shutil.ignore_patterns("store", "out*", "rivals*")
    root = shutil.copytree(smoke.root, tmp_path / "suite", ignore=ignored)
    (own,) = vectors([32], 2)
    file = save_embedding(root / "toy.safetensors", {"<toy>": own})
    recipe = root / "bear.toml"
    said = recipe.read_text() + f'method = "textual-inversion"\nfile = "{file.name}"\n'
    recipe.write_text(said + f'sha256 = "{sha256_of(file)}"\n')
    path = root / "imported.toml"
    path.write_text((root / "smoke.toml").read_text() + IMPORTED)
    place = Smoke(path, read_suite(path), root).place("imported")
    made = evaluate(read_suite(path), path, place, figures=["imported"], budget=ONE)
    figure = next(figure for figure in made.figures if figure.id == "imported")
    assert {point.variant for point in figure.points} == {"as it is", "the word"}
    (built,) = (one for one in made.concepts if one.variant == "as it is")
    artifact = load_artifact(Store(root / "store").get(built.sha256))
    assert artifact.card.imported is not None
    assert torch.equal(artifact.tensors["embedding"], own)
