"""What can be asked about a page of this world, and the answers: the labels of its recogniser."""

from __future__ import annotations

from perfusion_registry.storybook2.grammar import NOUNS
from perfusion_registry.storybook2.recogniser import Labels
from perfusion_registry.storybook2.world.colours import COLOURS
from perfusion_registry.storybook2.world.drawing import places, wearables
from perfusion_registry.storybook2.world.hands import HANDS
from perfusion_registry.storybook2.world.patterns import PATTERNS
from perfusion_registry.storybook2.world.scenery import LIGHTS, WEATHERS

NONE = ""
"""The answer where there is nothing to be named."""
LABELS = Labels(
    nouns=NOUNS,
    traits={
        "make": ("1", "2", "3"),
        "main": tuple(COLOURS),
        "second": tuple(COLOURS),
        "pattern": (NONE, *PATTERNS),
        "mark": tuple(COLOURS),
        "worn": (NONE, *wearables()),
    },
    wholes={
        "place": (NONE, *places()),
        "light": LIGHTS,
        "weather": (NONE, *WEATHERS),
        "hand": HANDS,
        "count": ("0", "1", "2", "3"),
    },
    relations=("left of", "right of", "in", "on", "riding", "under", "behind", "holding"),
)
"""The labels. A thing's make is which of its noun's drawings it is."""
