"""A verdict in one sentence: what was measured, and what to do where a test was not passed.

The sentence is on the card, so its words are a part of an artifact's bytes: other words would make another
artifact of the same recipe. They stay as they are, and so does what `Verdict.in_words` knows of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from perfusion_registry.artifact.verdict import Judgement
from perfusion_registry.methods.settings import Settings
from perfusion_registry.verdict.gates import WidestGate
from perfusion_registry.verdict.measuring import Attempted

_PLACES = {"<padding>": "the padding", "<end>": "the end of the prompt", "<start>": "the start of the prompt"}


@dataclass(frozen=True)
class Found:
    """What a verdict is made of. judge: who compared pictures; None where nobody could. tried: the options
    among which the best were chosen, by field."""

    name: str
    word: str
    judge: str | None
    measured: Attempted
    told: Judgement | None
    obeys: Judgement | None
    quiet: Judgement | None
    alike: Judgement | None
    shows: Judgement | None
    widest: WidestGate | None
    tried: tuple[Settings, ...]


def hardly_shown(word: str, share: float) -> str:
    """Of pictures whose supercategory the judge sees in a small share of them."""
    return (
        f"its pictures hardly show a {word} (seen in {share:.0%} of them): take the word that they show "
        "(`perf suggest-super`), or pictures of one"
    )


def sentence(found: Found) -> str:
    """All that was found, and what to do where a test was not passed."""
    parts = [*_alike(found), *_shows(found), *_told(found), *_obeys(found), *_quiet(found), *_strength(found)]
    said = "; ".join(parts)
    return said[:1].upper() + said[1:] if said else f"nothing could be measured of {found.name}*"


def _alike(found: Found) -> Iterator[str]:
    if found.alike is not None and not found.alike.passed:
        yield "its pictures are unlike what this base can draw: take a base for photographs"


def _shows(found: Found) -> Iterator[str]:
    unlike = found.alike is not None and not found.alike.passed  # says why already
    if found.shows is not None and not found.shows.passed and not unlike:
        yield hardly_shown(found.word, found.shows.value)


def _told(found: Found) -> Iterator[str]:
    told, word = found.told, found.word
    if told is None:
        yield f"whether it is told from a plain {word} was not measured, since the base has no CLIP model"
        return
    way = f"{_percent(told.value)} of the way from the plain word to its own pictures, by {found.judge}"
    if told.passed:
        yield f"it is told from a plain {word} ({way})"
    else:
        yield (
            f"it is hardly told from a plain {word} ({way}): see whether the pictures show one {word}, "
            "alone and large, or train it longer"
        )


def _obeys(found: Found) -> Iterator[str]:
    obeys = found.obeys
    if obeys is None:
        return
    share = f"{_percent(min(obeys.value, 1.0))} as well as with the plain word"
    if obeys.passed:
        yield f"places still appear ({share})"
    else:
        yield f"places hardly appear ({share}): a weaker residual, a higher bias or fewer steps let them"


def _quiet(found: Found) -> Iterator[str]:
    quiet, widest = found.quiet, found.widest
    if quiet is None or widest is None:
        return
    at = _PLACES.get(widest.at, f'"{widest.at}"')
    if quiet.passed:
        yield f"its gate opens at its own word alone (elsewhere by {quiet.value:.2f} at most)"
    else:
        yield (
            f'its gate opens by {quiet.value:.2f} at {at} in "{widest.prompt}": a higher bias closes it, '
            "or another covariance or seed"
        )


def _strength(found: Found) -> Iterator[str]:
    if found.tried:
        said = ", ".join(f"{field} {value}" for field, value in found.measured.settings.items())
        yield f"{said} serves it best"


def _percent(share: float) -> str:
    return f"{round(100 * share)} %"
