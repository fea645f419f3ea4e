"""The verdict of a build: what was trained, judged on the base that it was trained on, and its sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact
from perfusion_registry.artifact.verdict import Judgement
from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.evaluate.metrics import world
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import BuildTask
from perfusion_registry.worlds import NoJudgeError

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base, BaseDescription


@dataclass(frozen=True)
class LookedAt:
    """What a concept's own pictures are to a base. alike: whether they are such as it can draw. shows:
    whether they show the supercategory. None where nobody can tell. doubt: what to say of them beforehand."""

    alike: Judgement | None
    shows: Judgement | None
    doubt: str | None


def look_at_pictures(base: Base, pictures: Tensor, word: str) -> LookedAt:
    """Look at pictures (N, 3, H, W) in 0..1 of a kind of thing, before they are learned."""
    from perfusion_registry.verdict import judge_pictures
    from perfusion_registry.verdict.sentence import hardly_shown

    alike, doubt = _alike(base, pictures, word)
    shows = judge_pictures(base, pictures, BaseBounds.of(base.description), word)
    if shows is not None and not shows.passed and (doubt is None or _alike_otherwise(base, pictures, word)):
        doubt = hardly_shown(word, shows.value)
    return LookedAt(alike, shows, doubt)


def _alike_otherwise(base: Base, pictures: Tensor, word: str) -> bool:
    """Whether pictures are such as the base can draw under another of its words: then the word is wrong, and
    not the pictures."""
    from perfusion_registry.verdict import words_shown

    seen = words_shown(base, pictures, BaseBounds.of(base.description))
    judged = (_alike(base, pictures, thing)[0] for thing in seen if thing != word.lower())
    return any(one is not None and one.passed for one in judged)


def warn_of_pictures(
    description: BaseDescription, paths: Sequence[Path], word: str, reporter: Reporter, *, asked: bool = False
) -> None:
    """Say where pictures are unlike what a base can draw, or hardly show a thing of the kind `word`; a base
    that has been measured can tell, where what runs it is installed. asked: which word it is, so that only
    the first is said."""
    bounds = BaseBounds.of(description)
    judged = not asked and _has_judge(description, bounds)
    if (bounds.pictures is None and not judged) or find_spec("diffusers") is None:
        return
    from perfusion_registry.base import load_base

    with reporter.stage(f"Asking {description.repo} about the pictures"):
        base = load_base(description)
        pictures = own_pictures(base, sorted(set(paths)))
        if asked:
            doubt = _alike(base, pictures, word, "these")[1]
        else:
            doubt = look_at_pictures(base, pictures, word).doubt
    if doubt is not None:
        reporter.warn(doubt)


def _has_judge(description: BaseDescription, bounds: BaseBounds) -> bool:
    """Whether a base's world judges its pictures: not that of a base whose recogniser is still to come."""
    if bounds.world is None:
        return False
    try:
        return world(bounds.world).judge_file(str(description.folder)).is_file()
    except NoJudgeError:
        return False


def look_at_task(base: Base, task: BuildTask, reporter: Reporter) -> LookedAt:
    """Look at a task's pictures; where they are doubtful, a warning says so before anything is trained."""
    with reporter.stage(f"{task.name}: looking at its pictures"):
        pictures = own_pictures(base, [image.path for image in task.images])
        looked = look_at_pictures(base, pictures, task.recipe.concept.supercategory or "")
    if looked.doubt is not None:
        reporter.warn(f"{task.name}: {looked.doubt}")
    return looked


def judged(
    base: Base, task: BuildTask, artifact: Artifact, looked: LookedAt, reporter: Reporter
) -> tuple[Artifact, bytes]:
    """The artifact with its verdict, and the strength that serves it best among its scores; and its sheet, a
    JPEG."""
    from perfusion_registry.verdict import judge_concept

    result = judge_concept(
        base,
        artifact,
        own_pictures(base, [image.path for image in task.images]),
        BaseBounds.of(base.description),
        alike=looked.alike,
        shows=looked.shows,
        choosing=task.left_to_build is not None,
        reporter=reporter,
    )
    scores = artifact.card.scores | {key: float(value) for key, value in result.settings.items()}
    card = artifact.card.model_copy(update={"verdict": result.verdict, "scores": scores})
    return Artifact(card, artifact.tensors, artifact.format_1), result.sheet.to_bytes()


UNLIKE = (
    "{whose} pictures are unlike what the base {repo} can draw ({why}), so a concept of them will hardly be "
    "recognised: take a base for photographs (`perf init --base`, docs/bases.md), or pictures like those "
    "that this base draws"
)


def _alike(
    base: Base, pictures: Tensor, word: str, whose: str = "its"
) -> tuple[Judgement | None, str | None]:
    """Whether pictures (N, 3, H, W) in 0..1 of a kind of thing are such as the base can draw, by the error of
    its denoiser on them, and what to say where they are not; nothing of a base without bounds."""
    bounds = BaseBounds.of(base.description).pictures
    if bounds is None:
        return None, None
    from perfusion_registry.build.unlike import drawability

    found = drawability(base, pictures, word, bounds.levels)
    loss, psnr = float(found.loss.mean()), float(found.psnr.mean())
    judgement = Judgement(passed=found.within(bounds), value=round(loss, 4))
    if judgement.passed:
        return judgement, None
    why = f"its denoiser errs by {loss:.2f} on them, where {bounds.loss:.2f} is the most of its own pictures"
    if loss <= bounds.loss:
        why = f"its autoencoder gives them back with {psnr:.0f} dB, where {bounds.psnr:.0f} are the least"
    return judgement, UNLIKE.format(whose=whose, repo=base.description.repo, why=why)


def own_pictures(base: Base, paths: Sequence[Path]) -> Tensor:
    """Pictures (N, 3, H, W) in 0..1, at the size that the base draws."""
    import torch

    from perfusion_registry.build.framing import square
    from perfusion_registry.build.images import load_image

    return torch.stack([square(load_image(path).pixels, base.picture_size) for path in paths])
