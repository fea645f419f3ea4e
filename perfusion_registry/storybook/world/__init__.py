"""The drawn world: individuals, scenes and relations, painted as signed distance fields with exact masks."""

from perfusion_registry.storybook.world.drawing import draw_individual
from perfusion_registry.storybook.world.individual import (
    ACCESSORIES,
    ANIMALS,
    CATEGORIES,
    COLOURS,
    CONTAINERS,
    MATERIALS,
    SUPPORTS,
    Individual,
)
from perfusion_registry.storybook.world.page import Page, draw_page
from perfusion_registry.storybook.world.painter import Canvas, paint
from perfusion_registry.storybook.world.scenery import SCENES

__all__ = [
    "ACCESSORIES",
    "ANIMALS",
    "CATEGORIES",
    "COLOURS",
    "CONTAINERS",
    "MATERIALS",
    "SCENES",
    "SUPPORTS",
    "Canvas",
    "Individual",
    "Page",
    "draw_individual",
    "draw_page",
    "paint",
]
