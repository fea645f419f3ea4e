"""Individuals: one particular teddy, cat or teapot, and everything that makes it that one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from perfusion_registry.storybook.world.shape import RGB

COLOURS: dict[str, RGB] = {
    "red": (0.86, 0.16, 0.15), "orange": (0.97, 0.55, 0.10), "yellow": (0.98, 0.86, 0.22),
    "green": (0.25, 0.66, 0.28), "blue": (0.18, 0.40, 0.87), "purple": (0.56, 0.26, 0.73),
    "pink": (0.97, 0.58, 0.73), "white": (0.96, 0.95, 0.92), "black": (0.14, 0.14, 0.16),
    "grey": (0.56, 0.57, 0.60), "brown": (0.53, 0.33, 0.18),
}  # fmt: skip
CATEGORIES = ("teddy", "cat", "dog", "teapot", "pot", "boat", "chair", "table")
ANIMALS = ("teddy", "cat", "dog")
CONTAINERS = ("teapot", "pot", "boat")
SUPPORTS = ("chair", "table")
MATERIALS = ("gold", "wooden", "glass", "knitted")
PATTERNS = ("plain", "striped", "spotted", "heart", "patch")
ACCESSORIES = ("a wizard hat", "a crown", "a red scarf", "sunglasses")

FIRST_PART = {
    "teddy": "ears", "cat": "ears", "dog": "ears", "teapot": "handle", "pot": "handles", "boat": "rim",
    "chair": "legs", "table": "legs",
}  # fmt: skip
"""The part that carries an individual's second colour, as captions name it."""
SECOND_PART = {"teapot": "lid", "boat": "sail", "table": "drawer"}
"""The part that carries its third colour, where there is one."""

_FURS = (
    "brown",
    "brown",
    "brown",
    "white",
    "grey",
    "black",
    "orange",
    "pink",
    "blue",
    "yellow",
    "purple",
    "red",
    "green",
)


@dataclass(frozen=True, slots=True)
class Individual:
    """Everything that makes one individual: drawn twice, it looks the same twice.

    colour, second, third and mark are words of `COLOURS`; tint is a small shift of every colour, so that
    two green teddies differ. mark is the colour of stripes, spots, the heart or the patch. A material
    overrides the colours.
    """

    category: str
    colour: str
    second: str
    third: str
    pattern: str = "plain"
    mark: str = "white"
    material: str | None = None
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    width: float = 1.0
    height: float = 1.0
    ear: float = 1.0
    eye: str = "black"
    accessory: str | None = None
    reading: bool = False

    def rgb(self, word: str) -> RGB:
        """The colour of a word, as this individual wears it."""
        r, g, b = (min(1.0, max(0.0, c + t)) for c, t in zip(COLOURS[word], self.tint, strict=True))
        return (r, g, b)

    def traits(self, *, open_lid: bool = False) -> dict[str, str]:
        """What a picture shows of it, in words, by field; `look` is its material or else its main colour.

        open_lid: whether somebody sits in it; a teapot has no lid then.
        """
        if self.material is not None:
            return {"look": self.material}
        told = {"look": self.colour, "second": self.second, "pattern": self.pattern}
        if self.category in SECOND_PART and not (self.category == "teapot" and open_lid):
            told["third"] = self.third
        if self.pattern != "plain":
            told["mark"] = self.mark
        return told

    @classmethod
    def sample(cls, rng: Random, category: str) -> Individual:
        """A random individual of the category."""
        colour = rng.choice(_FURS if category in ANIMALS else tuple(COLOURS))
        words = tuple(COLOURS)
        material = rng.choice(MATERIALS) if rng.random() < (0.13 if category in ANIMALS else 0.18) else None
        pattern = rng.choices(PATTERNS, (0.5, 0.16, 0.13, 0.13, 0.08))[0]
        individual = cls(
            category=category,
            colour=colour,
            second=colour if material or rng.random() < 0.45 else rng.choice(words),
            third=rng.choice(words),
            pattern="plain" if material else pattern,
            mark=rng.choice([w for w in words if w != colour]),
            material=material,
            tint=(rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04)),
            width=rng.uniform(0.9, 1.1),
            height=rng.uniform(0.92, 1.08),
            ear=rng.uniform(0.85, 1.2),
            eye=rng.choice(("green", "yellow", "blue", "black")) if category == "cat" else "black",
        )
        if category in ANIMALS:
            if rng.random() < 0.28:
                individual = replace(individual, accessory=rng.choice(ACCESSORIES))
            elif rng.random() < 0.06:
                individual = replace(individual, reading=True)
        return individual
