"""Drawings as files: what an SVG says of itself, and its groups with or without (see `STYLE.md`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

from perfusion_registry.storybook2.world.colours import Rgb, from_hexadecimal

Point = tuple[float, float, float]
ROLES = ("main", "second", "third")
_DATA = re.compile(r'data-([a-z]+)="([^"]*)"')
_RULE = re.compile(r"\.([a-z-]+)\{(?:fill|stroke):(#[0-9a-fA-F]{3,6})\}")
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)


@dataclass(frozen=True)
class Drawing:
    """One SVG of the picture book. name: of its file. svg: its text."""

    name: str
    svg: str

    @cached_property
    def data(self) -> dict[str, str]:
        """What the root says (`data-...`)."""
        return dict(_DATA.findall(self.svg[: self.svg.index(">")]))

    @cached_property
    def words(self) -> tuple[str, ...]:
        """What captions call it, the commonest first."""
        return tuple(word.strip() for word in self.data["words"].split(","))

    @property
    def noun(self) -> str:
        """The word that all drawings of this noun share."""
        return self.words[0]

    @property
    def kind(self) -> str:
        """`animal`, `toy`, `vessel`, `seat`, `vehicle`, `thing`, `food`, `plant`, `building`, `wearable`."""
        return self.data["kind"]

    @property
    def height(self) -> float:
        """Of a page's height, when alone."""
        return float(self.data["height"])

    @cached_property
    def parts(self) -> dict[str, str]:
        """The role of each part whose colour a caption may name."""
        pairs = (item.split(":") for item in self.data["parts"].split(",") if ":" in item)
        return {part.strip(): role.strip() for part, role in pairs}

    @cached_property
    def defaults(self) -> dict[str, Rgb]:
        """The colour that each class has in the file."""
        return {name: from_hexadecimal(colour) for name, colour in _RULE.findall(self.svg)}

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Of `ROLES`, those that it has."""
        return tuple(role for role in ROLES if any(role_of(name) == role for name in self.defaults))

    @cached_property
    def groups(self) -> frozenset[str]:
        """The ids of its groups."""
        return frozenset(re.findall(r'<g\b[^>]*\bid="([^"]+)"', self.svg))

    @cached_property
    def props(self) -> tuple[str, ...]:
        """Of a place: the ids of groups that may be left out, sorted."""
        tags = re.findall(r'<g\b[^>]*\bclass="prop"[^>]*>', self.svg)
        return tuple(sorted(found[1] for tag in tags if (found := re.search(r'\bid="([^"]+)"', tag))))

    def point(self, key: str) -> Point | None:
        """A place on the drawing of 100 x 100, as the root gives it (`head`, `rim`, ...), or None."""
        if key not in self.data:
            return None
        numbers = [float(number) for number in self.data[key].split(",")]
        a, b, c = (*numbers, 0.0, 0.0)[:3]
        return a, b, c

    def default(self, role: str) -> Rgb | None:
        """The natural colour of a role: of its plain shade, or of the nearest that there is."""
        for shade in ("", "-light", "-dark", "-lighter", "-darker"):
            for end in ("", "-line"):
                if (colour := self.defaults.get(f"{role}{shade}{end}")) is not None:
                    return colour
        return None


def role_of(name: str) -> str:
    """The role of a class: `main` of `main-dark-line`."""
    return name.partition("-")[0]


def shade_of(name: str) -> str:
    """The shade of a class: `dark` of `main-dark-line`, nothing of `main-line`."""
    return name.removesuffix("-line").partition("-")[2]


def without(svg: str, group: str) -> str:
    """The drawing without the group of that id; as it is, where it has none."""
    span = _span(svg, group)
    return svg if span is None else svg[: span[0]] + svg[span[1] :]


def alone(svg: str, group: str) -> str | None:
    """The group of that id by itself, or None."""
    span = _span(svg, group)
    return None if span is None else _head(svg) + svg[span[0] : span[1]] + "</svg>"


def around(svg: str, group: str) -> tuple[str, str, str] | None:
    """The text before a group, of it, and after it; or None."""
    span = _span(svg, group)
    return None if span is None else (svg[: span[0]], svg[span[0] : span[1]], svg[span[1] :])


def restyled(svg: str, style: str) -> str:
    """The drawing with another style block."""
    return _STYLE.sub(f"<style>{style}</style>", svg, count=1)


def _head(svg: str) -> str:
    """The root's start and the style block."""
    return svg[: svg.index("</style>") + len("</style>")]


def _span(svg: str, group: str) -> tuple[int, int] | None:
    """Where a group begins and ends; groups may nest."""
    start = re.search(rf'<g\b[^>]*\bid="{re.escape(group)}"', svg)
    if start is None:
        return None
    depth = 0
    for tag in re.finditer(r"<g\b[^>]*?(/?)>|</g>", svg[start.start() :]):
        depth += -1 if tag[0] == "</g>" else int(not tag[1])
        if depth == 0:
            return start.start(), start.start() + tag.end()
    raise ValueError(f"the group {group} is not closed")


@cache
def drawings() -> dict[str, Drawing]:
    """All drawings by the names of their files, in their order."""
    return _read("drawings")


@cache
def places() -> dict[str, Drawing]:
    """All places by the names of their files, in their order."""
    return _read("drawings/places")


@cache
def makes() -> dict[str, tuple[Drawing, ...]]:
    """The drawings of each noun that is no wearable, by the noun, in the order of the alphabet."""
    found: dict[str, list[Drawing]] = {}
    for drawing in drawings().values():
        if drawing.kind != "wearable":
            found.setdefault(drawing.noun, []).append(drawing)
    return {noun: tuple(found[noun]) for noun in sorted(found)}


@cache
def wearables() -> dict[str, Drawing]:
    """What can be worn, by its word."""
    return {d.noun: d for d in drawings().values() if d.kind == "wearable"}


def _read(folder: str) -> dict[str, Drawing]:
    there = files("perfusion_registry.storybook2.world").joinpath(folder)
    svgs = {file.name.removesuffix(".svg"): file for file in there.iterdir() if file.name.endswith(".svg")}
    return {name: Drawing(name, svgs[name].read_text(encoding="utf-8")) for name in sorted(svgs)}
