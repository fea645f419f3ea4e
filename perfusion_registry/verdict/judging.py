"""The verdict on a concept that was just trained: what it is good for, measured, with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from perfusion_registry.artifact import Artifact
from perfusion_registry.artifact.verdict import Judgement, Verdict
from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.build.training import repeatable
from perfusion_registry.methods.settings import Settings, Value
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import TrainingOptions
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.verdict.gates import OPEN, WidestGate, widest_elsewhere
from perfusion_registry.verdict.judges import PictureJudge, judge_of
from perfusion_registry.verdict.measuring import SEEDS, Attempted, best_of, measure, places_of
from perfusion_registry.verdict.sentence import Found, sentence
from perfusion_registry.verdict.sheet import SHOWN, VerdictSheet
from perfusion_registry.verdict.subject import Trained

if TYPE_CHECKING:
    from perfusion_registry.base import Base

OBEYS = 0.7
"""Of the places that appear with the plain word, the share that must appear with the concept: between four
good builds and one of another noun's pictures on Storybook (`docs/log.md`), and confirmed by no others."""


@dataclass(frozen=True)
class JudgedConcept:
    """A verdict, the options that serve the concept best (by field; none where nothing was tried), and the
    sheet: its own pictures, and a plain prompt and two places drawn."""

    verdict: Verdict
    settings: Settings
    sheet: VerdictSheet


def judge_concept(
    base: Base,
    artifact: Artifact,
    own: Tensor,
    bounds: BaseBounds,
    *,
    alike: Judgement | None = None,
    shows: Judgement | None = None,
    choosing: bool = True,
    reporter: Reporter | None = None,
) -> JudgedConcept:
    """Draw a few pictures of a trained concept, compare them, and say in a sentence what it is good for.

    own: its pictures (N, 3, H, W) in 0..1. alike, shows: whether these are such as the base can draw, and
    whether they show its supercategory, where that was measured. choosing: whether strengths of its residual
    are tried, or only what the recipe says. The same inputs give the same verdict on one kind of processor.
    """
    train = artifact.card.train
    assert isinstance(train, TrainingOptions)
    trained = Trained(base, artifact, train)
    card = artifact.card
    choices = _choices(card.method, card.train, card.render, choosing=choosing)
    judge = judge_of(base, bounds, trained.word)
    title = f"{trained.name}: judging what it became"
    count = pictures_to_judge(card.method, train, card.render, choosing=choosing)
    with (reporter or Silent()).stage(title, count) as stage, repeatable(base.device):
        widest = widest_elsewhere(trained, (*train.templates, *train.validation_prompts))
        measured, plain = measure(trained, own, judge, choices, stage.advance)
    best = best_of(measured)
    found = Found(
        name=trained.name,
        word=trained.word,
        judge=judge.called if judge else None,
        measured=best,
        told=_told(best, judge, bounds),
        obeys=_obeys(best),
        quiet=_quiet(widest),
        alike=alike,
        shows=shows,
        widest=widest,
        tried=tuple(choices) if len(choices) > 1 else (),
    )
    verdict = Verdict(
        sentence=sentence(found),
        told=found.told,
        obeys=found.obeys,
        quiet=found.quiet,
        alike=alike,
        shows=shows,
    )
    settings = best.settings if len(choices) > 1 else {}
    return JudgedConcept(verdict, settings, _sheet(trained, own, best, plain, verdict))


def _sheet(trained: Trained, own: Tensor, best: Attempted, plain: Tensor, verdict: Verdict) -> VerdictSheet:
    """own: as in `judge_concept`. plain: the plain word's pictures (P, S, 3, H, W) in 0..1."""
    drawn = [row[0] for rows in (best.pictures, plain) for row in rows[:SHOWN]]
    return VerdictSheet(
        name=trained.name,
        word=trained.word,
        templates=places_of(trained.train.validation_prompts)[:SHOWN],
        said=verdict.in_words,
        own=[_picture(one) for one in own],
        drawn=[_picture(one) for one in drawn],
    )


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).contiguous().numpy())


def judge_pictures(base: Base, own: Tensor, bounds: BaseBounds, word: str) -> Judgement | None:
    """Whether a concept's own pictures (N, 3, H, W) in 0..1 show a thing of the kind `word`; None where
    nobody can tell."""
    judge = judge_of(base, bounds, word)
    share = None if judge is None else judge.shows(own, word)
    return None if share is None else Judgement(passed=share >= bounds.shows, value=_rounded(share))


def words_shown(base: Base, own: Tensor, bounds: BaseBounds) -> tuple[str, ...]:
    """Of the words for all that a base draws, those of things that pictures (N, 3, H, W) in 0..1 show; all of
    them where nobody can tell."""
    judge = judge_of(base, bounds, bounds.things[0]) if bounds.things else None
    if judge is None:
        return bounds.things
    shares = [(word, judge.shows(own, word)) for word in bounds.things]
    return tuple(word for word, share in shares if share is None or share >= bounds.shows)


def pictures_to_judge(method: str, train: TrainingOptions, render: FileModel, *, choosing: bool) -> int:
    """How many pictures a verdict draws of a concept with these options. choosing: as in `judge_concept`."""
    strengths = len(_choices(method, train, render, choosing=choosing))
    return (1 + strengths) * len(places_of(train.validation_prompts)) * len(SEEDS)


def _choices(name: str, train: FileModel, render: FileModel, *, choosing: bool) -> Sequence[Settings]:
    """The strengths to try, the usual one first; one without any where the concept has none to choose."""
    method = find_method(name)
    now = method.own_options(train, render, {})
    usual: Value | None = getattr(now, method.strength, None) if method.strength else None
    if usual is None or not choosing:
        return [{}]
    assert method.strength is not None
    values = dict.fromkeys([usual, *method.strengths])
    return [{method.strength: value} for value in values]


def _told(measured: Attempted, judge: PictureJudge | None, bounds: BaseBounds) -> Judgement | None:
    if judge is None:
        return None
    share = measured.likeness.share
    return Judgement(passed=share >= bounds.told, value=_rounded(share))


def _obeys(measured: Attempted) -> Judgement | None:
    if measured.obeyed is None:
        return None
    return Judgement(passed=measured.obeyed >= OBEYS, value=_rounded(measured.obeyed))


def _quiet(widest: WidestGate | None) -> Judgement | None:
    return None if widest is None else Judgement(passed=widest.gate < OPEN, value=_rounded(widest.gate))


def _rounded(value: float) -> float:
    return round(value, 3)
