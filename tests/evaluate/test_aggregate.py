"""Section 5's scores, against a few numbers that can be added up by hand."""

from __future__ import annotations

import pytest

from perfusion_registry.evaluate.aggregate import figure_result
from perfusion_registry.evaluate.metrics import difference as told_difference
from perfusion_registry.evaluate.metrics import told
from perfusion_registry.evaluate.plan import compared, points
from perfusion_registry.evaluate.results import FigureResult, ImageRecord
from perfusion_registry.evaluate.suite import Bootstrap, Claim, Figure, TrainSection, Variant

# Of each class: image and text similarity of a picture in a scene, and text similarity of one that is not.
SCORES = {
    "words": {"cat": (0.1, 0.2, 0.4), "pot": (0.1, 0.4, 0.4)},
    "near@0.5": {"cat": (0.9, 0.2, 0.1), "pot": (0.4, 0.4, 0.4)},
    "near@0.7": {"cat": (0.3, 0.3, 0.3), "pot": (0.6, 0.4, 0.4)},
    "deep": {"cat": (0.9, 0.4, 0.4), "pot": (0.9, 0.4, 0.4)},
}
VARIANTS = (
    Variant(name="words", method="supercategory"),
    Variant(name="near", bias=(0.5, 0.7)),
    Variant(name="deep", train=TrainSection(steps=9)),
)
CLAIMS = (
    Claim(text="both classes", metric="image", better="deep", than="near"),
    Claim(text="turned round", metric="image", better="deep", than="near", less=True),
    Claim(text="a number", metric="image", better="deep", at_least=0.95),
    Claim(text="nothing tells", metric="dino", better="deep", than="near"),
)


def record(
    point: str, name: str, scene: bool, metrics: dict[str, float], place: str = "in the snow"
) -> ImageRecord:
    return ImageRecord(
        figure="1",
        variant=point.partition("@")[0],
        point=point,
        method="supercategory" if point == "words" else "perfusion",
        bias=None,
        temperature=None,
        key_lock=None,
        concepts=(name,),
        group="scenes" if scene else "others",
        shape_preserving=scene,
        prompt="",
        template=f"a {{}} {place}" if scene else f"a gold {{}} {place}",
        seed=0,
        picture="x.png",
        metrics=metrics,  # type: ignore[arg-type]
    )


PLACES = ("in the snow", "by the fire", "on the beach")


@pytest.fixture(scope="module")
def result() -> FigureResult:
    return scored(*PLACES)


def scored(*places: str) -> FigureResult:
    """The figure, with the same scores in every place."""
    figure = Figure(id="1", title="By hand", variants=VARIANTS, claims=CLAIMS, best=True)
    records = []
    for point, classes in SCORES.items():
        for name, (image, text, other) in classes.items():
            for place in places:
                records.append(record(point, name, True, {"image": image, "text": text}, place))
                records.append(record(point, name, False, {"image": 0.0, "text": other}, place))
    operating = [point for variant in compared(figure) for point in points(variant)]
    return figure_result(figure, operating, records, Bootstrap(resamples=200))


def test_the_scores_are_those_of_section_5(result: FigureResult) -> None:
    near = next(point for point in result.points if point.label == "near@0.5")
    # Image similarity is of the shape-preserving prompts alone, text similarity of all.
    assert near.classes["cat"]["image"] == pytest.approx(0.9)
    assert near.classes["cat"]["text"] == pytest.approx(0.15)
    assert near.classes["cat"]["text_normalised"] == pytest.approx(0.5)
    harmonic = {"cat": 2 / (1 / 0.9 + 1 / 0.5), "pot": 2 / (1 / 0.4 + 1)}
    for name, value in harmonic.items():
        assert near.classes[name]["harmonic"] == pytest.approx(value, abs=1e-5)
    assert near.metrics["image"].value == pytest.approx((0.9 + 0.4) / 2)
    assert near.metrics["harmonic"].value == pytest.approx(sum(harmonic.values()) / 2, abs=1e-5)


def test_best_h_chooses_for_each_class_among_run_time_parameters_of_one_model(result: FigureResult) -> None:
    assert result.best is not None
    assert result.best.choice == {"cat": "near@0.5", "pot": "near@0.7"}
    assert result.best.metrics["image"].value == pytest.approx((0.9 + 0.6) / 2)


def test_claims_compare_variants_by_the_mean_of_their_points(result: FigureResult) -> None:
    both, turned, number, nothing = result.claims
    assert both.better_value == pytest.approx(0.9)
    assert both.than_value == pytest.approx(((0.9 + 0.4) / 2 + (0.3 + 0.6) / 2) / 2)
    assert (both.verdict, turned.verdict) == ("holds", "fails")
    assert (number.verdict, number.than_value) == ("fails", pytest.approx(0.95))
    assert (nothing.verdict, nothing.difference) == ("unmeasured", None)


def test_a_claim_of_too_few_prompts_is_open_and_has_no_interval() -> None:
    few = scored("in the snow", "by the fire")  # two of each of two concepts: two spare ones
    assert [claim.verdict for claim in few.claims] == ["open", "open", "open", "unmeasured"]
    difference = few.claims[0].difference
    assert difference is not None
    assert (difference.low, difference.high) == (None, None)
    assert difference.value == pytest.approx(0.9 - ((0.9 + 0.4) / 2 + (0.3 + 0.6) / 2) / 2)
    assert "too few prompts" in told_difference("image", difference)


@pytest.mark.parametrize(
    ("metric", "value", "signed", "text"),
    [
        ("image", 0.1234, False, "0.123"),
        ("image", -0.1234, True, "−0.123"),
        ("image", 0.00012, True, "+0.00012"),
        ("image", 0.0, True, "0.000"),
        ("both", 0.601, False, "60 %"),
        ("both", 0.25, True, "+25 %"),
        ("leakage", -0.004, True, "−0.4 %"),
        ("leakage", -0.0001, True, "0 %"),
        ("leakage", 0.004, False, "0 %"),
    ],
)
def test_numbers_are_written_for_people(metric, value, signed, text) -> None:
    assert told(metric, value, signed=signed) == text.replace(" ", "\N{NO-BREAK SPACE}")
