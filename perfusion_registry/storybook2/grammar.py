"""Which pages there are: what is chosen by chance, and what no training may see.

One look of a noun in eight (a colour or a pattern) and one combination in twelve (a noun in a place, a noun
in a relation to another) stay out of training, by the digest of their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256
from random import Random

from perfusion_registry.storybook2.world.colours import apart, oklab
from perfusion_registry.storybook2.world.drawing import Drawing, makes
from perfusion_registry.storybook2.world.hands import HANDS
from perfusion_registry.storybook2.world.individual import Individual, sample_individual
from perfusion_registry.storybook2.world.layout import SMALLEST, guest_size, seated, size_word, standing, step
from perfusion_registry.storybook2.world.outline import hidden, whole
from perfusion_registry.storybook2.world.page import Page, Placed
from perfusion_registry.storybook2.world.scenery import SIZE, Scenery, sample_scenery

WORLD_EPOCH = 3
"""Raised whenever a change alters pages or captions; every page is a function of it and of its number."""

NOUNS = (
    "apple", "armchair", "backpack", "balloon", "bathtub", "bear", "bicycle", "boat", "boot",
    "bowl", "bucket", "cactus", "cake", "car", "castle", "cat", "chair", "clock", "cow", "crab",
    "cup", "dinosaur", "dog", "doll", "dragon", "duck", "elephant", "fox", "frog", "giraffe",
    "hedgehog", "house", "lamp", "lion", "monkey", "mouse", "octopus", "owl", "panda", "penguin",
    "piano", "pot", "pumpkin", "rabbit", "robot", "rocket", "rubber duck", "shoe", "snail",
    "snowman", "sofa", "submarine", "sunflower", "table", "teapot", "teddy", "tent", "train",
    "turtle", "umbrella", "unicorn", "vase", "whale", "wizard",
)  # fmt: skip
"""Nouns that pages show: those of the everyday prompts, and the cast below. They are half of those that
there are drawings of: with all of them 42 in 100 single things were recognised after 520,000 pages, where 60
were asked for."""

CAST = (
    "backpack", "bear", "boat", "bowl", "car", "cat", "chair", "clock", "cup", "dog", "doll", "duck",
    "elephant", "fox", "house", "owl", "penguin", "pot", "rabbit", "robot", "rubber duck", "shoe", "sofa",
    "table", "teapot", "teddy", "turtle", "vase",
)  # fmt: skip
"""Nouns that prompts ask for most; a page shows each twice as often as another."""

_SEEN = 0.13  # in OKLab, how far a thing's colour is from what lies behind it
_LEAST_GUEST = {"in": 64, "on": 64, "riding": 56}  # pixels, so that 16 x 16 latents can show it
_LIVING = ("animal", "toy")
_STILL_TOYS = frozenset(("ball", "balloon", "kite", "drum", "rocking horse"))
_HELD = frozenset((
    "apple", "ball", "balloon", "banana", "cake", "camera", "cup", "cupcake", "drum", "fish", "gift",
    "guitar", "kite", "lamp", "mushroom", "pineapple", "pumpkin", "radio", "rubber duck", "strawberry",
    "sunflower", "teapot", "teddy", "telephone", "trumpet", "tulip", "umbrella", "violin",
))  # fmt: skip
_PUT_IN = frozenset(("food", "plant"))
_KINDS: tuple[tuple[str, float], ...] = (
    ("alone", 0.43),
    ("beside", 0.17),
    ("in", 0.11),
    ("on", 0.07),
    ("riding", 0.03),
    ("under", 0.03),
    ("behind", 0.04),
    ("holding", 0.03),
    ("counted", 0.05),
    ("three", 0.03),
    ("empty", 0.01),
)


def sample_page(rng: Random, *, split: str = "train", kind: str | None = None) -> Page:
    """A page by chance.

    split: `train` shows nothing that is held out; `held-out` shows something of it on every other page. kind:
    such as `alone` or `beside`; by chance, where none is asked for.
    """
    wanted = split == "held-out" and rng.random() < 0.5
    while True:
        of = kind or rng.choices([name for name, _ in _KINDS], [weight for _, weight in _KINDS])[0]
        page = _SAMPLERS[of](rng)
        if page is None:
            continue
        page = whole(page)
        if page is None:
            continue
        if split == "train" and is_held_out(page):
            continue
        if wanted and not is_held_out(page):
            continue
        out_of_sight = hidden(page)
        if any((k, _wears(page, k)) in out_of_sight for k in range(len(page.things))):
            continue
        hand = "flat" if rng.random() < 0.7 else rng.choice(HANDS[1:])
        if hand == "night light" and (page.scenery.dark or page.scenery.weather):
            hand = "flat"
        return replace(page, hand=hand, seed=rng.randrange(2**32), hidden=out_of_sight)


def _wears(page: Page, thing: int) -> str | None:
    worn = page.things[thing].individual.worn
    return None if worn is None else worn.word


def is_held_out(page: Page) -> bool:
    """Whether a page shows a look or a combination that trainings must not see."""
    for thing in page.things:
        one = thing.individual
        if (dye := one.dye("main")) is not None and held_out_look(one.noun, dye):
            return True
        if one.pattern is not None and held_out_look(one.noun, one.pattern):
            return True
    return any(held_out_pair(*names) for names in combinations(page))


def combinations(page: Page) -> tuple[tuple[str, ...], ...]:
    """What a page combines: a noun and the place, two nouns in a relation, a noun and what it wears.

    Two things next to each other are one combination in either order, since captions name either first; three
    in a row are three such pairs.
    """
    ones = [thing.individual for thing in page.things]
    if page.counted:
        ones = ones[:1]
    found: list[tuple[str, ...]] = []
    if page.scenery.place is not None:
        found += [(one.noun, page.scenery.place) for one in ones]
    found += [(one.noun, "wearing", one.worn.word) for one in ones if one.worn is not None]
    if page.relation in (None, "next to"):
        pairs = [(a.noun, b.noun) for k, a in enumerate(ones) for b in ones[k + 1 :]]
        found += [(min(pair), "next to", max(pair)) for pair in pairs]
    elif page.relation is not None:
        found.append((ones[0].noun, page.relation, ones[1].noun))
    return tuple(found)


@cache
def held_out_look(noun: str, look: str) -> bool:
    """Whether a noun in this colour or pattern stays out of training: one in eight."""
    return _digest("look", noun, look) % 8 == 0


@cache
def held_out_pair(*names: str) -> bool:
    """Whether a noun in a place, or in a relation to another noun, stays out of training: one in twelve."""
    return _digest("pair", *names) % 12 == 0


def _digest(*names: str) -> int:
    return int.from_bytes(sha256("\n".join(names).encode()).digest()[:4], "big")


def _pick(rng: Random, allowed: Callable[[Drawing], bool] | None = None) -> Drawing:
    """A drawing whose noun is chosen first, those of the cast twice as often."""
    choices = {noun: [d for d in makes()[noun] if allowed is None or allowed(d)] for noun in NOUNS}
    nouns = [noun for noun, made in choices.items() if made]
    noun = rng.choices(nouns, [2.0 if noun in CAST else 1.0 for noun in nouns])[0]
    return rng.choice(choices[noun])


def _scenery(rng: Random, *things: Individual) -> Scenery | None:
    """A scenery before which all the things can be seen; None where chance finds none."""
    for _ in range(12):
        scenery = sample_scenery(rng)
        tone = scenery.tone
        if all(float(((oklab(one.main) - tone) ** 2).sum()) ** 0.5 > _SEEN for one in things):
            return scenery
    return None


def _alone(rng: Random) -> Page | None:
    one = sample_individual(rng, _pick(rng), dressed=0.14)
    scenery = _scenery(rng, one)
    if scenery is None:
        return None
    word, factor = size_word(rng)
    px = step(min(max(SIZE * one.drawing.height * 1.4 * factor, 64), 220))
    thing = standing(rng, one, scenery, rng.uniform(0.36, 0.64), px)
    return Page(scenery, (thing,), sizes=(word,))


def _beside(rng: Random) -> Page | None:
    ones = [sample_individual(rng, _pick(rng)) for _ in range(2)]
    if ones[0].noun == ones[1].noun:
        return None
    scenery = _scenery(rng, *ones)
    if scenery is None:
        return None
    middles = [rng.uniform(0.25, 0.29), rng.uniform(0.71, 0.75)]
    if rng.random() < 0.5:
        middles.reverse()
    return _row(rng, scenery, ones, middles, 1.12, 72, 120, relation="next to")


def _three(rng: Random) -> Page | None:
    ones = [sample_individual(rng, _pick(rng)) for _ in range(3)]
    if len({one.noun for one in ones}) < 3:
        return None
    scenery = _scenery(rng, *ones)
    if scenery is None:
        return None
    middles = [0.18, 0.5, 0.82]
    rng.shuffle(middles)
    return _row(rng, scenery, ones, middles, 0.8, 64, 80)


def _counted(rng: Random) -> Page | None:
    one = sample_individual(rng, _pick(rng), dressed=0.05)
    scenery = _scenery(rng, one)
    if scenery is None:
        return None
    n = rng.choice((2, 2, 3))
    middles = [rng.uniform(0.25, 0.29), rng.uniform(0.71, 0.75)] if n == 2 else [0.18, 0.5, 0.82]
    px = step(min(max(SIZE * one.drawing.height * (1.12 if n == 2 else 0.82), 64), 120 if n == 2 else 80))
    low, high = scenery.stand
    feet = rng.uniform(low, high)
    things = tuple(
        standing(rng, one, scenery, middle, px, feet=feet + rng.uniform(-5, 5)) for middle in middles
    )
    return Page(scenery, things, counted=True, sizes=(None,) * n)


def _row(
    rng: Random,
    scenery: Scenery,
    ones: list[Individual],
    middles: list[float],
    scale: float,
    least: int,
    most: int,
    relation: str | None = None,
) -> Page:
    low, high = scenery.stand
    feet = rng.uniform(low, high)
    words, things = [], []
    for one, middle in zip(ones, middles, strict=True):
        word, factor = size_word(rng)
        size = min(max(SIZE * one.drawing.height * scale, least), most)
        px = step(min(max(size * factor, 56), 128))
        things.append(standing(rng, one, scenery, middle, px, feet=feet + rng.uniform(-6, 6)))
        words.append(word)
    return Page(scenery, tuple(things), relation, sizes=tuple(words))


def _behind(rng: Random) -> Page | None:
    ones = [sample_individual(rng, _pick(rng)) for _ in range(2)]
    if ones[0].noun == ones[1].noun or apart(ones[0].main, ones[1].main) < 0.15:
        return None
    scenery = _scenery(rng, *ones)
    if scenery is None or scenery.floats:
        return None
    px = step(min(max(SIZE * ones[1].drawing.height * 0.95, 72), 104))
    larger = step(min(px * rng.uniform(1.35, 1.6), 160))
    side = rng.choice((-1, 1))
    middle = rng.uniform(0.42, 0.58)
    low, high = scenery.stand
    feet = (low + high) / 2 + rng.uniform(0, 8)
    front = standing(rng, ones[1], scenery, middle + side * 0.16, px, feet=feet + 10)
    back = standing(rng, ones[0], scenery, middle - side * 0.1, larger, feet=feet - 10)
    return Page(scenery, (back, front), "behind", sizes=(None, None))


def _hosted(how: str, scale: float, least: int) -> Callable[[Random], Page | None]:
    point = {"in": "rim", "on": "seat", "riding": "back", "under": "under", "holding": "hand"}[how]

    def sample(rng: Random) -> Page | None:
        host_drawing = _pick(rng, lambda drawing: drawing.point(point) is not None)
        guest_drawing = _pick(rng, lambda drawing: _goes(drawing, host_drawing, how))
        if guest_drawing.noun == host_drawing.noun:
            return None
        dressed = 0.12 if how in ("in", "on", "riding") else 0.0
        guest = sample_individual(rng, guest_drawing, dressed=dressed)
        host = sample_individual(rng, host_drawing, dressed=0.0)
        if apart(guest.main, host.main) < 0.12:
            return None
        scenery = _scenery(rng, guest, host)
        if scenery is None:
            return None
        px = step(min(max(SIZE * host_drawing.height * scale, least), 192))
        low, high = scenery.stand
        base = standing(
            rng, host, scenery, rng.uniform(0.4, 0.6), px, feet=max(rng.uniform(low, high), 0.84 * SIZE)
        )
        size = guest_size(base, how, guest)
        placed = None if size is None else seated(guest, base, 1 if how != "holding" else 0, size, how, rng)
        if placed is None or size is None or size < _LEAST_GUEST.get(how, SMALLEST):
            return None
        things: tuple[Placed, ...] = (placed, base)
        if how == "holding":
            things = (base, placed)
        name = "in" if how == "under" and host_drawing.noun == "tent" else how
        return Page(scenery, things, name, sizes=(None, None))

    return sample


def _goes(guest: Drawing, host: Drawing, how: str) -> bool:
    """Whether one would expect, or enjoy, a guest there."""
    living = guest.kind in _LIVING and guest.noun not in _STILL_TOYS
    if how == "holding":
        return guest.noun in _HELD
    if how == "in":
        return living or (host.kind == "vessel" and guest.kind in _PUT_IN) or guest.noun == "ball"
    if how == "on":
        return living or (
            host.noun in ("table", "stool", "bed", "sofa", "chair", "drum") and guest.height <= 0.46
        )
    if how == "under":
        return living or guest.kind in ("food", "vessel") or guest.noun in ("ball", "gift", "shoe")
    return living


def _empty(rng: Random) -> Page | None:
    scenery = sample_scenery(rng)
    return None if scenery.place is None else Page(scenery)


_SAMPLERS: dict[str, Callable[[Random], Page | None]] = {
    "alone": _alone,
    "beside": _beside,
    "three": _three,
    "counted": _counted,
    "behind": _behind,
    "in": _hosted("in", 1.25, 128),
    "on": _hosted("on", 1.25, 128),
    "riding": _hosted("riding", 1.15, 144),
    "under": _hosted("under", 1.5, 160),
    "holding": _hosted("holding", 1.25, 128),
    "empty": _empty,
}
