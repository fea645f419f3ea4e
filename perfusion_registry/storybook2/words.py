"""Words of captions: articles, plurals, how sizes, patterns and hands are called."""

from __future__ import annotations

_PLURALS = {
    "mouse": "mice",
    "sheep": "sheep",
    "goose": "geese",
    "octopus": "octopuses",
    "cactus": "cactuses",
    "bus": "buses",
    "hippopotamus": "hippopotamuses",
}
_WITHOUT_ARTICLE = frozenset(("glasses", "sunglasses", "spectacles", "eyeglasses", "shades"))
PLURAL_PARTS = frozenset(("feet",))
"""Parts that come as several, though they do not end in s."""
UNCOUNTED_PARTS = frozenset(("armour", "bamboo", "cream", "frosting", "hair", "icing", "wool"))
_SOUNDED = ("unicorn", "u-")

SIZE_WORDS = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
NUMBERS = {2: "two", 3: "three"}
PATTERN_ADJECTIVES = {"stripes": ("striped",), "spots": ("spotted", "polka dot"), "patches": ("patchy",)}
PATTERN_NOUNS = {
    "stripes": ("stripes",),
    "spots": ("spots", "dots", "polka dots"),
    "hearts": ("hearts",),
    "patches": ("patches",),
    "stars": ("stars",),
}
HAND_OPENINGS = {
    "flat": ("", "", "", "a photo of ", "a picture of ", "a drawing of ", "an illustration of ",
             "an image of ", "a good photo of ", "the photo of ", "a photograph of ", "a view of ",
             "a close-up of "),
    "outlined": ("a cartoon of ", "a comic of ", "an ink drawing of ", "an outlined drawing of "),
    "soft": ("a 3d picture of ", "a soft picture of ", "a clay model of "),
    "watercolour": ("a watercolor of ", "a watercolour of ", "a watercolor painting of ", "a painting of "),
    "pencil": ("a pencil drawing of ", "a sketch of ", "a pencil sketch of "),
    "night light": ("",),
    "paper": ("a paper cut of ", "a paper collage of ", "a cut-out of "),
}  # fmt: skip
HAND_ENDINGS = {"night light": ("glowing in the dark", "as a night light", "as a glowing night light")}
LIGHT_WORDS = {
    "night": ("at night", "by night", "in the moonlight"),
    "sunset": ("at sunset", "in the evening", "in the evening sun"),
}
WEATHER_WORDS = {
    "rain": ("in the rain", "on a rainy day", "on a wet day"),
    "snowfall": ("in falling snow", "while it is snowing", "under falling snow"),
    "fog": ("in the fog", "on a foggy day", "in the mist"),
}
RELATION_WORDS = {
    "next to": ("next to", "next to", "beside", "and", "and", "with", "near"),
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "in": ("in", "in", "in", "inside", "sitting in", "standing in"),
    "on": ("on", "on", "on top of", "sitting on", "standing on"),
    "riding": ("riding", "riding", "riding on", "sitting on", "on"),
    "under": ("under", "under", "below", "beneath"),
    "behind": ("behind",),
    "in front": ("in front of", "before"),
    "holding": ("holding", "holding", "carrying", "with"),
}
LIVELESS_RELATIONS = {"in": ("in", "in", "inside"), "on": ("on", "on", "on top of")}
SAILING = ("sailing in", "floating in", "sailing in")
"""How somebody is in a vessel that is on the sea; the sea need not be named beside it."""

EVERYDAY = """
the of and to in that is was he for it with as his on be at by had not are but from or have an they which
one you were all she there would their we him been has when who will no more if out so said what up its
about into than them can only other time new some could these two may first then do any like my now over
such our man me even most made after also did many off before must well back through years where much your
way down should because long each just state people those too mr how little good world make very year still
see own work men day get here old life both between being under three never know same last another while us
might great go come since against right came take used himself few house use place during high without again
home around small however found mrs thought went say part once her photo picture painting drawing image
watercolor oil ink sketch style close shot view nice clean dirty dark bright cool big large tiny shown a
dressed samurai superhero suit hat wearing costume sombrero chef cooking gourmet meal street forest mountain
river lake bridge sun moon star stars rain autumn spring summer winter party birthday picnic reading book
playing ball riding floating eating sitting sailing standing sleeping broken covered pouring water engraved
front inside behind above tea toy plush sculpture bird goose tortoise king queen pirate flower flowers tree
trees window fireplace sunny snowy chilly shiny fluffy soft happy sad face eyes nose tail head leg legs arm
arms hand hands foot feet mouth hair girl boy child children woman baby mother father brother sister friend
family dad mum kids school room door wall floor roof garden park road path hill field grass leaf leaves wood
stone sand ice fire smoke sky cloud clouds wind storm thunder lightning rainbow morning afternoon evening
midnight today tomorrow yesterday week month monday sunday holiday christmas easter halloween present
running jumping swimming flying walking dancing singing looking waiting smiling laughing crying holding
drinking driving climbing hiding fishing writing lying resting waving hugging kissing coffee milk juice
bread cheese egg fruit pear cherry grape lemon carrot tomato potato pizza cookie candy chocolate cream plate
spoon fork knife glass bottle jug kettle candle mirror frame curtain pillow blanket carpet rug shelf desk
drawer key coin money pen pencil paper letter card map flag rope ladder wheel engine motor gold golden
silver wooden metal plastic leather woolen knitted velvet marble crystal diamond pretty beautiful cute funny
lovely sweet kind brave clever wise lonely hungry tired angry scared magic magical round square tall short
wide narrow thick thin heavy light fast slow young ancient modern simple fancy famous red orange yellow
green turquoise blue purple pink brown black white grey gray violet beige teal navy four five six seven
eight nine ten hundred thousand pair group row stack pile bunch several north south east west center middle
corner edge side top bottom left far near across along toward beyond city town village castle hall tower
church market shop store hotel hospital station airport harbor island beach desert jungle cave waterfall
pond ocean sea underwater volcano planet space astronaut alien robot monster fairy princess prince elf giant
troll mermaid vampire zombie skeleton wolf deer squirrel hen rooster crow eagle spider ant worm shark
dolphin seal lizard snake peacock flamingo ostrich pigeon donkey bull moose beaver bat camera film movie
music song guitar drum concert band game puzzle doll kite balloon box bag basket backpack holds watches
stands sits lies sleeps eats plays looks flies swims runs jumps rides sails wears
"""
"""Words that people write and captions may not, so that ordinary prompts take few tokens."""


def with_article(text: str, article: str = "a") -> str:
    """`a red cat`, `an owl`; words for what comes in pairs take none."""
    if text.split()[-1] in _WITHOUT_ARTICLE:
        return text
    if article != "a":
        return f"{article} {text}"
    vowel = text[0] in "aeiou" and not text.startswith(_SOUNDED)
    return f"{'an' if vowel else 'a'} {text}"


def part_lead(part: str, colour: str) -> str:
    """What comes before the colour of a part: `with`, or `with a` of one that can be counted."""
    several = part.endswith("s") or part in PLURAL_PARTS or part in UNCOUNTED_PARTS
    return "with" if several else f"with {with_article(colour).removesuffix(colour).strip()}"


def plural(word: str) -> str:
    """Several of a noun."""
    first, _, last = word.rpartition(" ")
    if last in _PLURALS:
        many = _PLURALS[last]
    elif last in _WITHOUT_ARTICLE or last.endswith("fish"):
        many = last
    elif last.endswith(("s", "x", "ch", "sh", "z")):
        many = last + "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        many = last[:-1] + "ies"
    else:
        many = last + "s"
    return f"{first} {many}".strip()
