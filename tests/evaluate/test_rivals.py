"""Methods beside each other: searches, trainings, costs, a table, and what follows from it."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from perfusion_registry.artifact import Store, load_artifact
from perfusion_registry.base.pixels import Preprocessing
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.aggregate import figure_result
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.comparison import compared
from perfusion_registry.evaluate.parts import Elsewhere
from perfusion_registry.evaluate.plan import points
from perfusion_registry.evaluate.preparing import Workplace, ahead, prepared
from perfusion_registry.evaluate.report import write_report
from perfusion_registry.evaluate.results import FigureResult, ImageRecord, read_results
from perfusion_registry.evaluate.runner import evaluate, evaluate_part, searched
from perfusion_registry.evaluate.suite import Bootstrap, Figure, Suite, Variant, find_suite, read_suite
from tests import forked
from tests.evaluate.conftest import Smoke
from tests.evaluate.test_resuming import RUN

QUICK = 'validate_every = 1, validation_steps = 1, mask = "none", batch = 1'
SUITE = f"""
[comparison]
figures = ["one"]
[[figures]]
id = "search"
title = "Settings of residuals"
kind = "search"
concepts = ["jug"]
prompts = ["toys", "scenes"]
seeds = 1
[[figures.variants]]
name = "residuals"
method = "residuals"
train = {{ steps = 1, {QUICK} }}
tries = {{ learning_rate = [0.002, 0.5] }}
render = {{ residual = [0.5, 1], lag = "off" }}
[[figures]]
id = "one"
title = "One"
concepts = ["bear"]
prompts = ["scenes"]
trainings = 2
[[figures.variants]]
name = "inversion"
method = "textual-inversion"
train = {{ steps = 1, {QUICK} }}
[[figures.variants]]
name = "residuals"
method = "residuals"
train = {{ steps = 1, {QUICK} }}
against = "inversion"
[[figures.variants]]
name = "residuals, best"
method = "residuals"
chosen_from = "search"
render = {{ lag = "median" }}
against = "inversion"
"""
SMALL = Budget(prompts=1, seeds=1)


@pytest.fixture(scope="module")
def rivals(smoke: Smoke) -> Smoke:
    """The suite, beside the smoke test's recipes."""
    text = smoke.path.read_text()
    path = smoke.root / "few.toml"
    path.write_text(text[: text.index("[[figures]]")].replace('name = "smoke"', 'name = "few"') + SUITE)
    return Smoke(path, read_suite(path), smoke.root)


@pytest.fixture(scope="module")
def whole(rivals: Smoke, tmp_path_factory: pytest.TempPathFactory):
    """A run that was killed among its pictures and went on, with where that was."""
    root = tmp_path_factory.mktemp("rivals")
    place = Workplace(root / "store", root / "out", "cpu", "float32")
    command = [sys.executable, "-c", RUN, str(rivals.path), str(place.root), str(place.out), "1"]
    process, pictures = forked.Popen(command), place.root / "evaluation" / "pictures"
    until = time.monotonic() + 300
    while len(list(pictures.glob("*/*.png"))) < 3 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (place.out / "results.json").exists()
    left = ahead(prepared(rivals.suite, rivals.path, place, budget=SMALL)[0], place.root)
    assert left.pictures[0] > 0
    return evaluate(rivals.suite, rivals.path, place, budget=SMALL), place


@pytest.mark.slow
def test_a_killed_comparison_goes_on_to_a_table_of_what_was_found_and_what_it_cost(rivals, whole) -> None:
    results, place = whole
    store = Store(place.root)
    search, one = results.figures
    # The setting with the most harmonic mean, on a concept that is not scored.
    tried = {point.label: point.metrics["harmonic"].value for point in search.points if "@" in point.label}
    assert len(tried) == 4
    assert search.chosen == max(tried, key=lambda label: tried[label])
    assert {name for record in results.images if record.figure == "search" for name in record.concepts} == {
        "jug"
    }
    best = [concept for concept in results.concepts if concept.variant == "residuals, best"]
    rate = 0.5 if "0.5@" in search.chosen else 0.002
    for concept in best:
        assert load_artifact(store.get(concept.sha256)).card.train.learning_rate == rate
    drawn = next(record for record in results.images if record.variant == "residuals, best")
    assert drawn.settings == {"residual": float(search.chosen.rpartition("=")[2]), "lag": "median"}

    # Two trainings of each, from two seeds, each with pictures of its own.
    for variant in ("inversion", "residuals", "residuals, best"):
        built = [
            concept for concept in results.concepts if (concept.figure, concept.variant) == ("one", variant)
        ]
        seeds = [load_artifact(store.get(concept.sha256)).card.train.seed for concept in built]
        assert ([concept.training for concept in built], seeds) == ([0, 1], [0, 1])
        pictures = [
            record for record in results.images if (record.figure, record.variant) == ("one", variant)
        ]
        assert [record.training for record in pictures] == [0, 1]
        row = next(row for row in results.comparison.rows if row.variant == variant)
        assert row.trainings == 2
        assert row.bytes == np.mean([store.path(concept.sha256).stat().st_size for concept in built])
        tensors = load_artifact(store.get(built[0].sha256)).tensors
        learned = sum(
            t.numel() for name, t in tensors.items() if variant != "inversion" or "embedding" in name
        )
        assert row.parameters == learned
        assert row.seconds > 0
        assert row.metrics["one"]["image"].value == pytest.approx(
            np.mean([record.metrics["image"] for record in pictures]), abs=1e-5
        )
        assert row.metrics["one"]["image"].low is None  # two trainings of one concept decide nothing
    assert {contrast.verdict for contrast in one.contrasts} == {"too few"}
    assert [c.kind for c in results.comparison.conclusions] == sorted(
        [c.kind for c in results.comparison.conclusions],
        key=["against", "open", "for", "limits"].index,
    )
    # What the search came to is known from then on, and there is nothing left to do.
    plan = searched(rivals.suite, prepared(rivals.suite, rivals.path, place, budget=SMALL)[0], place.root)
    assert plan.choices["search"].label == search.chosen
    left = ahead(plan, place.root)
    assert (left.builds[0], left.pictures[0], left.seconds) == (0, 0, 0)
    page = write_report(results, place.out).read_text(encoding="utf-8")
    assert "too few prompts or trainings" in page
    assert "Settings of residuals: of 4 settings" in page
    assert read_results(place.out / "results.json") == results


@pytest.mark.slow
def test_parts_of_machines_that_talk_to_nobody_come_together(rivals: Smoke, whole, tmp_path: Path) -> None:
    results, place = whole
    stores = [tmp_path / "1", tmp_path / "2"]
    parts = []
    for number, root in enumerate(stores, start=1):
        own = replace(place, root=root, elsewhere=Elsewhere((place.root,)))  # so that nothing is learned anew
        parts.append(evaluate_part(rivals.suite, rivals.path, own, (number, 2), budget=SMALL))
    orders = [{order.digest for order in part.plan.orders} for part in parts]
    assert not orders[0] & orders[1]
    assert all(orders)

    both = replace(place, root=tmp_path / "both", out=tmp_path / "out", elsewhere=Elsewhere(tuple(stores)))
    plan, _ = prepared(rivals.suite, rivals.path, both, budget=SMALL)
    plan = searched(rivals.suite, plan, both.root, both.elsewhere)
    assert plan.choices["search"].label == results.figures[0].chosen
    left = ahead(plan, both.root, both.elsewhere)  # what a dry run with both caches tells
    assert (left.builds[0], left.pictures[0]) == (0, 0)
    assert not (both.root / "evaluation").exists()
    # What look-alikes look like comes along, and what a training cost whose artifact is here already.
    Cache(stores[1]).keep_features("ab" * 32, torch.ones(2, 3))
    here = next(order for order in plan.orders if order.built(Store(stores[0])))
    there, own = Store(stores[0]), Store(both.root)
    sha256 = own.put(there.get(here.built(there) or ""))
    own.record(here.training, sha256)
    own.record(here.digest, sha256)
    made = evaluate(rivals.suite, rivals.path, both, budget=SMALL, machines=None)
    assert made.images == results.images
    assert made.comparison == results.comparison
    portraits = Cache(both.root).features("ab" * 32)
    assert portraits is not None
    assert torch.equal(portraits, torch.ones(2, 3))
    assert Cache(both.root).cost(here.training) == Cache(stores[0]).cost(here.training) is not None
    with pytest.raises(PerfError, match="nothing of an evaluation"):
        Elsewhere((tmp_path / "nowhere",))


def test_the_shipped_suite_is_the_issues(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = read_suite(find_suite("rivals"))
    one, two = suite.figure("one"), suite.figure("two")
    searches = [figure for figure in suite.figures if figure.kind == "search"]
    assert {sum(len(points(variant)) for variant in figure.variants) for figure in searches} == {12}
    assert len(one.concepts) == 4
    assert not set(one.concepts) & {name for figure in searches for name in figure.concepts}
    assert all(len(figure.concepts) == 2 for figure in searches)
    assert (one.trainings, two.trainings, suite.render.seeds) == (3, 3, 4)
    for name in one.concepts:
        group = next(concept.group for concept in suite.concepts if concept.name == name)
        prompts = [
            p for p in suite.prompts if p.name in one.prompts and (not p.for_groups or group in p.for_groups)
        ]
        assert sum(len(p.templates) for p in prompts) == 12
    learned = {
        "perfusion",
        "residuals",
        "textual-inversion",
        "custom-diffusion",
        "dreambooth",
        "dreambooth-lora",
    }
    assert {variant.method for variant in one.variants} == learned
    assert [variant.name for variant in one.variants] == [variant.name for variant in two.variants]
    papers = {variant.name: variant for variant in one.variants if variant.chosen_from is None}
    assert {f"{name}, best of 12" for name in papers} == {v.name for v in one.variants if v.chosen_from}
    said = papers["perfusion"].train.model_dump(exclude_none=True)
    rates = ("learning_rate_output", "learning_rate_embedding", "batch", "steps", "residual_rank")
    assert [said[key] for key in rates] == [0.03, 0.006, 16, 400, 0]
    for name in ("residuals", "textual-inversion", "custom-diffusion", "dreambooth-lora"):
        assert not papers[name].train.model_dump(exclude_none=True)  # their defaults are their papers'


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('chosen_from = "search"', 'chosen_from = "serch"'), "names the search `serch`"),
        (('method = "residuals"\nchosen', 'method = "textual-inversion"\nchosen'), "another method"),
        (("learning_rate = [0.002, 0.5]", "lerning_rate = [1]"), "did you mean `learning_rate`"),
        (("learning_rate = [0.002, 0.5]", "learning_rate = [0.002, 50]"), "less than or equal to 10"),
        (('against = "inversion"\n[[', 'against = "nobody"\n[['), "names the variant `nobody`"),
        (('figures = ["one"]', 'figures = ["two"]'), "names the figure `two`"),
        (('kind = "search"', 'kind = "search"\nmetrics = ["leakage"]\nchoose = "leakage"'), "less is better"),
    ],
)
def test_a_mistake_in_a_comparison_is_told(rivals: Smoke, change: tuple[str, str], told: str) -> None:
    text = rivals.path.read_text().replace('render = { lag = "median" }\n', "")
    assert text.count(change[0]) == 1
    path = rivals.root / "wrong.toml"
    path.write_text(text.replace(*change))
    with pytest.raises(PerfError) as caught:
        read_suite(path)
    assert told in caught.value.what


def test_a_method_that_a_suite_lacks_is_told(rivals: Smoke) -> None:
    with pytest.raises(PerfError, match="no method 'residual'") as caught:
        prepared(rivals.suite, rivals.path, rivals.place(), budget=Budget(methods=("residual",)))
    assert "residuals" in str(caught.value.hint)
    few = Budget(methods=("residuals",), settings=2, trainings=1)
    plan, _ = prepared(rivals.suite, rivals.path, rivals.place(), budget=few)
    labels = [point.label for point in plan.points("search")]
    assert labels == [
        "residuals, learning rate 0.002@residual=0.5",
        "residuals, learning rate 0.5@residual=0.5",
        "supercategory",
    ]
    assert len({order.digest for order in plan.orders}) == 4  # two in the search, and of one concept two more


NOUNS = ("cat", "teapot", "teddy", "dog", "boat")


def test_the_noun_nearest_to_the_images_is_what_clip_says(
    rivals: Smoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base_folder: Path
) -> None:
    """Table 4, against transformers' own CLIP; without WordNet its figure is left out."""
    text = rivals.path.read_text()
    path = rivals.root / "macro.toml"
    variant = 'name = "residuals"\nmethod = "residuals"\ntrain'
    assert text.count(variant) == 2
    path.write_text(text.replace(variant, variant.replace("\ntrain", "\nnearest_word = true\ntrain")))
    suite = read_suite(path)
    monkeypatch.setattr("perfusion_registry.build.nouns._folders", lambda: [tmp_path])
    place = rivals.place()
    with pytest.raises(PerfError, match="WordNet is not installed"):
        prepared(suite, path, place)

    index = tmp_path / "corpora" / "wordnet" / "index.noun"
    index.parent.mkdir(parents=True)
    index.write_text("".join(f"{noun} n 1 1 @ 1 0 00000000  \n" for noun in NOUNS))
    plan, _ = prepared(suite, path, place)
    model = CLIPModel.from_pretrained(tiny_base_folder / "clip").eval()
    tokenizer = CLIPTokenizer.from_pretrained(tiny_base_folder / "clip")
    files = sorted((rivals.root / "bear").glob("*.png"))
    rows = [torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files]
    pixels = Preprocessing.clip(32)(torch.stack(rows).permute(0, 3, 1, 2).float() / 255)
    texts = tokenizer([f"a photo of a {noun}" for noun in NOUNS], return_tensors="pt", padding=True)
    with torch.no_grad():
        seen = model(**texts, pixel_values=pixels)
    nearest = NOUNS[int((seen.text_embeds @ seen.image_embeds.T).mean(1).argmax())]
    built = {key[1]: order.source.supercategory for key, order in plan.builds.items() if key[0] == "one"}
    assert built["residuals"] == nearest
    assert built["inversion"] == "teddy"
    # A figure that takes what such a search chose needs the words as well.
    path.write_text(path.read_text().replace("nearest_word = true\ntrain", "train", 2))
    text = path.read_text()
    start = text.index('method = "residuals"')
    path.write_text(text[:start] + text[start:].replace("\ntrain", "\nnearest_word = true\ntrain", 1))
    plan, _ = prepared(read_suite(path), path, place, figures=["one"])
    assert not plan.skipped
    built = {key[1]: order.source.supercategory for key, order in plan.builds.items() if key[0] == "one"}
    assert (built["residuals"], built["residuals, best"]) == ("teddy", nearest)


def test_a_chosen_setting_leaves_what_a_variant_says_of_itself(rivals: Smoke) -> None:
    said = 'chosen_from = "search"\n'
    path = rivals.root / "itself.toml"
    path.write_text(rivals.path.read_text().replace(said, said + 'images = 1\nsupercategory = "cat"\n'))
    plan, _ = prepared(read_suite(path), path, rivals.place(), figures=["one"])
    sources = {key[1]: order.source for key, order in plan.builds.items() if key[0] == "one"}
    best, other = sources["residuals, best"], sources["residuals"]
    assert (best.supercategory, len(best.images)) == ("cat", 1)
    assert other.supercategory == "teddy"
    assert len(other.images) > 1


# --- the table, and its intervals, by hand ---------------------------------------------------------------

FIGURE = Figure(
    id="1",
    title="By hand",
    metrics=("image", "text"),
    trainings=3,
    variants=(
        Variant(name="ours"),
        Variant(name="near", method="residuals", against="ours"),
        Variant(name="like", method="dreambooth-lora", against="ours"),
    ),
)
PROMPTS, SEEDS = 6, 2


def pictures(values: dict[str, dict[str, np.ndarray]]) -> list[ImageRecord]:
    """The records of values (T, prompts, seeds), by variant and concept; text is image turned round."""
    records = []
    for variant, concepts in values.items():
        for name, numbers in concepts.items():
            for (training, prompt, seed), value in np.ndenumerate(numbers):
                records.append(
                    ImageRecord(
                        figure="1", variant=variant, point=variant, method="", bias=None, temperature=None,
                        key_lock=None, concepts=(name,), group="g", shape_preserving=True, prompt="",
                        template=f"a {{}} {prompt}", seed=seed, training=training, picture="x.png",
                        metrics={"image": float(value), "text": -float(value)},
                    )
                )  # fmt: skip
    return records


def measured(shift: float) -> tuple[dict[str, dict[str, np.ndarray]], FigureResult]:
    rng = np.random.default_rng(0)
    shared = {name: rng.normal(scale=0.4, size=(1, PROMPTS, 1)) for name in "abcd"}
    values = {
        variant: {
            name: by
            + shared[name]
            + rng.normal(scale=0.2, size=(3, 1, 1))
            + rng.normal(0, 0.1, (3, PROMPTS, SEEDS))
            for name in "abcd"
        }
        for variant, by in {"ours": 0.0, "near": shift, "like": 0.0}.items()
    }
    points_ = [point for variant in FIGURE.variants for point in points(variant)]
    return values, figure_result(FIGURE, points_, pictures(values), Bootstrap(resamples=4000))


def test_intervals_of_the_table_are_those_of_a_bootstrap_written_out() -> None:
    """Prompts and pictures drawn for both methods at once, two of three trainings for each by itself."""
    values, result = measured(0.3)
    rng, differences = np.random.default_rng(7), []
    for _ in range(3000):
        classes = []
        for name in "abcd":
            chosen = rng.integers(PROMPTS, size=PROMPTS)
            seeds = rng.integers(SEEDS, size=(PROMPTS, SEEDS))
            means = []
            for variant in ("near", "ours"):
                trained = rng.integers(3, size=2)
                drawn = values[variant][name][trained][:, chosen]  # (2, prompts, seeds)
                means.append(np.take_along_axis(drawn, seeds[None].repeat(2, 0), 2).mean())
            classes.append(means[0] - means[1])
        differences.append(np.mean(classes))
    low, high = np.percentile(differences, [2.5, 97.5])
    found = next(c for c in result.contrasts if (c.variant, c.metric) == ("near", "image"))
    assert found.difference.value == pytest.approx(
        np.mean([values["near"][n].mean() - values["ours"][n].mean() for n in "abcd"]), abs=1e-5
    )
    assert found.difference.low == pytest.approx(low, abs=0.06 * (high - low))
    assert found.difference.high == pytest.approx(high, abs=0.06 * (high - low))


def test_conclusions_are_the_numbers_and_what_speaks_against_ours_is_first() -> None:
    _, result = measured(1.0)
    verdicts = {(c.variant, c.metric): c.verdict for c in result.contrasts}
    assert verdicts["near", "image"] == "better"
    assert verdicts["near", "text"] == "worse"
    suite = read_suite(find_suite("rivals")).model_copy(update={"figures": (FIGURE,)})
    suite = Suite.model_copy(
        suite, update={"comparison": suite.comparison.model_copy(update={"figures": ("1",)})}
    )
    table = compared(suite, [result], [])
    said = [(c.kind, c.text) for c in table.conclusions]
    assert said[0][0] == "against"
    assert said[0][1].startswith("near is better than ours: image similarity +")
    assert any(kind == "for" and text.startswith("near is worse than ours: text sim") for kind, text in said)
    same = [metric for metric in ("image", "text") if verdicts["like", metric] == "not told apart"]
    assert any(kind == "open" and "like and ours are not told apart" in text for kind, text in said) == bool(
        same
    )
    assert said[-1][0] == "limits"
