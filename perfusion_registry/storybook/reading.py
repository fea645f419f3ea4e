"""Reading captions back: what a sentence asks a picture of the drawn world to show."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perfusion_registry.storybook.captions import MADE_OF, PLACE_WORDS
from perfusion_registry.storybook.world import ACCESSORIES, CATEGORIES, COLOURS, MATERIALS
from perfusion_registry.storybook.world.individual import PATTERNS

_PLACE = {words: scene for scene, all_words in PLACE_WORDS.items() for words in all_words}
_FABRIC = {word: material for material, words in MADE_OF.items() for word in words}
_MADE = re.compile(r"\bmade (?:out )?of (" + "|".join(sorted(_FABRIC, key=len, reverse=True)) + r")\b")
_ADJECTIVES = {*COLOURS, *MATERIALS, *PATTERNS}


@dataclass(frozen=True)
class Asked:
    """What a sentence asks for. categories: in the order of their words. materials: by category. scene: one
    of `SCENES`. accessories: with "reading" among them. watercolor: whether that style. relation: of the
    first two categories, `in`, `on` or `next to`; None where there are no two."""

    categories: tuple[str, ...]
    materials: dict[str, str]
    scene: str | None
    accessories: tuple[str, ...]
    watercolor: bool
    relation: str | None = None


def asked(text: str) -> Asked:
    """Read a sentence. What it says in other words than captions do is not asked for."""
    text = " ".join(text.lower().replace(",", " ").split())
    scene = None
    for words in sorted(_PLACE, key=len, reverse=True):
        found = re.search(rf"\b{words}\b", text)
        if found:
            scene = _PLACE[words]
            text = f"{text[: found.start()]} {text[found.end() :]}"
            break
    if scene is None and re.search(r"\bsailing\b", text):
        scene = "on the sea"  # who sails is at sea, whether or not the sentence says so
    accessories = tuple(thing for thing in ACCESSORIES if f"wearing {thing}" in text)
    reading = ("reading",) if "reading a book" in text else ()
    categories, materials = _things(text)
    painting = bool(re.search(r"\bwatercolor\b|\ba painting of\b", text))
    return Asked(categories, materials, scene, accessories + reading, painting, _relation(text, categories))


def _relation(text: str, categories: tuple[str, ...]) -> str | None:
    """How the first two things stand to each other, by the words between them."""
    if len(categories) < 2:
        return None
    between = re.search(rf"\b{categories[0]}\b(.*?)\b{categories[1]}\b", text)
    found = re.findall(r"\b(in|inside|on|next to|beside|and|with)\b", between[1] if between else "")
    return {"in": "in", "inside": "in", "on": "on"}.get(found[-1] if found else "", "next to")


def _things(text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The categories of a sentence, and the material that each is asked to be of."""
    found = list(re.finditer(r"\b(" + "|".join(CATEGORIES) + r")\b", text))
    materials = {}
    for number, match in enumerate(found):
        category = match[1]
        until = found[number + 1].start() if number + 1 < len(found) else len(text)
        for word in reversed(text[: match.start()].split()):
            if word not in _ADJECTIVES:
                break
            if word in MATERIALS:
                materials[category] = word
        made = _MADE.search(text, match.end(), until)
        if made:
            materials[category] = _FABRIC[made[1]]
    return tuple(dict.fromkeys(match[1] for match in found)), materials
