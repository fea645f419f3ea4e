"""Individuals: one drawing in its own colours, with a pattern, and something worn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from perfusion_registry.storybook2.world.colours import COLOURS, Rgb, apart, name_of, shaded
from perfusion_registry.storybook2.world.drawing import Drawing, drawings, role_of, shade_of, wearables
from perfusion_registry.storybook2.world.patterns import PATTERNS

HATS = ("crown", "party hat", "top hat", "wizard hat", "woolly hat")
EYEWEAR = ("glasses", "sunglasses")
_ALIKE = 0.17  # in OKLab, two roles of one thing nearer than this look like one
_GREY: Rgb = (128, 128, 128)


@dataclass(frozen=True)
class Worn:
    """Something worn: its word, and its main colour where it is dyed."""

    word: str
    colour: str | None = None

    @property
    def drawing(self) -> Drawing:
        """Its drawing."""
        return wearables()[self.word]

    @property
    def where(self) -> str:
        """The wearer's point that it sits on."""
        return "head" if self.word in HATS else "face" if self.word in EYEWEAR else "neck"

    def palette(self) -> dict[str, Rgb]:
        """Its colours by class."""
        return _palette(self.drawing, {"main": self.colour} if self.colour else {})


@dataclass(frozen=True)
class Individual:
    """One thing of a kind.

    name: of its drawing. dyes: the colour of each role that is dyed; the others are as in the drawing.
    pattern: over the main colour, in the colour `mark`. marks: the number that lays the pattern out.
    """

    name: str
    dyes: tuple[tuple[str, str], ...] = ()
    pattern: str | None = None
    mark: str | None = None
    marks: int = 0
    worn: Worn | None = None

    @cached_property
    def drawing(self) -> Drawing:
        """Its drawing."""
        return drawings()[self.name]

    @property
    def noun(self) -> str:
        """What it is."""
        return self.drawing.noun

    def dye(self, role: str) -> str | None:
        """The colour that a role is dyed, or None."""
        return dict(self.dyes).get(role)

    def colour(self, role: str) -> str | None:
        """What one would call a role's colour; None where that is unclear, or it has no such role."""
        if (dye := self.dye(role)) is not None:
            return dye
        natural = self.drawing.default(role)
        return name_of(natural) if natural is not None else None

    def palette(self) -> dict[str, Rgb]:
        """Its colours by class."""
        return _palette(self.drawing, dict(self.dyes))

    def marked_palette(self) -> dict[str, Rgb]:
        """Its colours by class where the pattern is."""
        palette = self.palette()
        if self.mark is not None:
            marked = (name for name in palette if role_of(name) == "main")
            palette |= {name: shaded(self.mark, shade_of(name)) for name in marked}
        return palette

    @property
    def main(self) -> Rgb:
        """The sRGB of its main colour."""
        return _rgb(self.drawing, dict(self.dyes), "main")


def sample_individual(
    rng: Random, drawing: Drawing, *, natural: float = 0.45, dressed: float = 0.1
) -> Individual:
    """An individual of a drawing. natural: the share of those that are left in the drawing's colours.
    dressed: of those that can wear something, how many do."""
    one = Individual(drawing.name)
    if rng.random() >= natural:
        one = replace(one, dyes=_sample_dyes(rng, drawing))
    if "main" in drawing.roles and rng.random() < 0.16:
        kind = rng.choice(PATTERNS)
        marks = [colour for colour in COLOURS if apart(shaded(colour, ""), one.main) > 0.25]
        one = replace(one, pattern=kind, mark=rng.choice(marks), marks=rng.randrange(2**32))
    wearable = [word for word in wearables() if _fits(drawing, word)]
    if wearable and rng.random() < dressed:
        word = rng.choice(wearable)
        colours = [colour for colour in COLOURS if apart(shaded(colour, ""), one.main) > 0.2]
        dyed = word not in EYEWEAR and rng.random() < 0.6
        one = replace(one, worn=Worn(word, rng.choice(colours) if dyed else None))
    return one


def _sample_dyes(rng: Random, drawing: Drawing) -> tuple[tuple[str, str], ...]:
    """Colours for the roles, none of them alike to the main one."""
    dyes: dict[str, str] = {}
    for role in drawing.roles:
        if role == "main":
            if rng.random() < 0.9:
                dyes[role] = rng.choice(list(COLOURS))
            continue
        main = _rgb(drawing, dyes, "main")
        if apart(main, _rgb(drawing, dyes, role)) < _ALIKE or rng.random() < 0.35:
            dyes[role] = rng.choice([c for c in COLOURS if apart(shaded(c, ""), main) > _ALIKE])
    return tuple(dyes.items())


def _rgb(drawing: Drawing, dyes: dict[str, str], role: str) -> Rgb:
    return shaded(dyes[role], "") if role in dyes else (drawing.default(role) or _GREY)


def _palette(drawing: Drawing, dyes: dict[str, str]) -> dict[str, Rgb]:
    return {
        name: shaded(dyes[role_of(name)], shade_of(name)) if role_of(name) in dyes else colour
        for name, colour in drawing.defaults.items()
    }


def _fits(drawing: Drawing, word: str) -> bool:
    """Whether an animal or toy has the place that a wearable needs."""
    return drawing.kind in ("animal", "toy") and drawing.point(Worn(word).where) is not None
