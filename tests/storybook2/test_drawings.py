"""The laws of the style sheet, and dyed rasters against the SVG written anew in the same colours."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

import numpy as np
import pytest
import resvg_py
from PIL import Image

from perfusion_registry.storybook2.world.colours import COLOURS, shaded
from perfusion_registry.storybook2.world.drawing import ROLES, drawings, makes, places, role_of, shade_of
from perfusion_registry.storybook2.world.individual import HATS, Individual, Worn
from perfusion_registry.storybook2.world.raster import LARGEST, Rasters, dyed, part_mask

SPACE = "{http://www.w3.org/2000/svg}"
KINDS = {"animal", "toy", "vessel", "seat", "vehicle", "thing", "food", "plant", "building", "wearable"}
ALL = {**drawings(), **{f"places/{name}": place for name, place in places().items()}}


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def raster(svg: str, width: int, height: int | None = None) -> np.ndarray:
    """An SVG (h, w, 4), colours times the coverage, by resvg alone."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=width, height=height or width))
    rgba = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(np.float64)
    rgba[..., :3] *= rgba[..., 3:] / 255
    return rgba


def pad(stack, square: int, plane: np.ndarray) -> np.ndarray:
    """A plane of a stack in its whole square."""
    whole = np.zeros((square, square, *plane.shape[2:]))
    whole[stack.y : stack.y + plane.shape[0], stack.x : stack.x + plane.shape[1]] = plane
    return whole


@pytest.mark.parametrize("name", ALL)
def test_every_drawing_keeps_to_the_style_sheet(name: str) -> None:
    drawing, root = ALL[name], parsed(ALL[name].svg)
    place = name.startswith("places/")
    assert root.get("viewBox") == ("0 0 140 100" if place else "0 0 100 100")
    assert root.get("transform") is None
    tags = {element.tag.removeprefix(SPACE) for element in root.iter()}
    assert tags <= {"svg", "style", "g", "path", "circle", "ellipse", "rect"}
    assert root[0].tag == f"{SPACE}style"
    classes = {c for element in root.iter() for c in (element.get("class") or "").split()} - {"prop"}
    assert all(
        re.fullmatch(r"(main|second|third)(-darker|-dark|-lighter|-light)?(-line)?", c) for c in classes
    )
    assert classes <= drawing.defaults.keys()
    ids = [element.get("id") for element in root.iter(f"{SPACE}g") if element.get("id")]
    assert len(ids) == len(set(ids))
    assert drawing.words
    assert all(re.fullmatch(r"[a-z][a-z0-9 -]*", word) for word in drawing.words)
    if place:
        low, high = (float(n) for n in drawing.data["stand"].split(","))
        assert 0 < low <= high <= 95
        assert drawing.data["light"] in ("day", "night", "fire")
        return
    assert drawing.kind in KINDS
    assert set(drawing.parts.values()) <= set(drawing.roles) <= set(ROLES)
    for key, count in {
        "head": 3,
        "face": 3,
        "neck": 3,
        "base": 3,
        "hand": 2,
        "rim": 3,
        "seat": 3,
        "back": 3,
    }.items():
        if key in drawing.data:
            numbers = [float(number) for number in drawing.data[key].split(",")]
            assert len(numbers) == count
            assert all(0 <= number <= 100 for number in numbers)
    if "rim" in drawing.data:
        assert "front" in drawing.groups
    assert (drawing.kind == "wearable") == ("base" in drawing.data)


def test_a_word_belongs_to_one_noun_and_there_are_as_many_as_promised() -> None:
    owners = {(word, d.noun) for d in drawings().values() for word in d.words}
    twice = [word for word, count in Counter(word for word, _ in owners).items() if count > 1]
    assert not twice
    assert 90 <= len(makes()) <= 130
    assert 18 <= len(places()) <= 26
    assert len(COLOURS) == 12


def test_nothing_is_painted_over_the_edge_of_a_square() -> None:
    for name, drawing in drawings().items():
        wide = drawing.svg.replace('viewBox="0 0 100 100"', 'viewBox="-20 -20 140 140"', 1)
        alpha = raster(wide, 140)[..., 3]
        alpha[20:120, 20:120] = 0
        # Less than half of a pixel of a hundred is smoothing of an edge that lies on the line.
        assert alpha.max() < 128, name


def coloured(svg: str, colours: dict[str, str]) -> str:
    """The drawing with some roles dyed: its style block rewritten, nothing else. The independent way."""

    def rule(found: re.Match[str]) -> str:
        name = found[1]
        role = role_of(name)
        colour = (
            "#{:02x}{:02x}{:02x}".format(*shaded(colours[role], shade_of(name)))
            if role in colours
            else found[3]
        )
        return f".{name}{{{found[2]}:{colour}}}"

    head, style, rest = re.split(r"(<style>.*?</style>)", svg, maxsplit=1, flags=re.DOTALL)
    return head + re.sub(r"\.([a-z-]+)\{(fill|stroke):(#[0-9a-fA-F]{3,6})\}", rule, style) + rest


SAMPLE = ("teddy-2", "teapot", "guitar", "bus", "zebra", "hot-air-balloon", "swan", "violin")


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize("colours", [{}, {"main": "green", "second": "purple", "third": "yellow"}])
def test_weights_give_the_raster_of_the_dyed_svg(name: str, colours: dict[str, str]) -> None:
    drawing, rasters = drawings()[name], Rasters()
    one = Individual(name, tuple((role, c) for role, c in colours.items() if role in drawing.roles))
    svg = coloured(drawing.svg, dict(one.dyes))
    stack = rasters.stack(drawing, LARGEST)
    assert stack is not None
    direct = raster(svg, LARGEST)
    assert np.abs(pad(stack, LARGEST, stack.alpha) - direct[..., 3]).max() == 0
    assert np.abs(pad(stack, LARGEST, dyed(stack, one.palette())) - direct[..., :3]).max() <= 4
    smaller = rasters.stack(drawing, 128)
    assert smaller is not None
    direct = raster(svg, 128)
    # Reduced from the largest raster: edges differ by what the two ways of smoothing differ.
    assert np.abs(pad(smaller, 128, smaller.alpha) - direct[..., 3]).mean() < 2
    assert np.abs(pad(smaller, 128, dyed(smaller, one.palette())) - direct[..., :3]).mean() < 2


def white_part(svg: str, part: str) -> str:
    """The drawing in black with one group in white, through an XML parser."""
    root = parsed(svg)

    def paint(element: ElementTree.Element, fill: str | None, stroke: str | None, inside: bool) -> None:
        for child in element:
            own, fills, strokes = inside or child.get("id") == part, fill, stroke
            for name in (child.get("class") or "").split():
                if name.endswith("-line"):
                    strokes = "paint"
                elif name != "prop":
                    fills = "paint"
            if "class" not in child.attrib or child.get("class") == "prop":
                fills, strokes = child.get("fill", fill), child.get("stroke", stroke)
            else:
                fills = fills if fills == "paint" else child.get("fill", fill)
                strokes = strokes if strokes == "paint" else child.get("stroke", stroke)
            paint(child, fills, strokes, own)
            if child.tag != f"{SPACE}g":
                colour = "#fff" if own else "#000"
                child.attrib.pop("class", None)
                child.set("fill", "none" if fills == "none" else colour)
                child.set("stroke", colour if strokes not in (None, "none") else "none")

    paint(root, None, None, False)
    for element in root.iter(f"{SPACE}g"):
        for key in ("class", "fill", "stroke"):
            element.attrib.pop(key, None)
    for style in root.findall(f"{SPACE}style"):
        root.remove(style)
    return ElementTree.tostring(root, encoding="unicode")


@pytest.mark.parametrize(
    ("name", "part"),
    [("teddy-2", "ears"), ("teapot", "lid"), ("owl", "belly"), ("lion", "mane"), ("camel", "humps")],
)
def test_the_mask_of_a_part_is_what_is_seen_of_its_group(name: str, part: str) -> None:
    drawing = drawings()[name]
    stack = Rasters().stack(drawing, LARGEST)
    assert stack is not None
    direct = raster(white_part(drawing.svg, part), LARGEST)[..., 0]
    assert direct.max() > 200
    assert np.abs(pad(stack, LARGEST, part_mask(stack, part, drawing.parts[part])) - direct).max() <= 4


def test_natural_colours_that_captions_name_are_of_that_name() -> None:
    for name, drawing in drawings().items():
        if (told := Individual(name).colour("main")) is not None:
            rgb = np.array(drawing.default("main"), float)
            spread = rgb.max() - rgb.min()
            if told in ("black", "grey"):
                assert spread < 48, name
            elif told == "brown":
                assert rgb[0] > rgb[1] > rgb[2] - 8, name
            elif told == "orange":
                assert rgb[0] > 220, name
            elif told == "white":
                assert rgb.min() > 190, name


def test_wearables_sit_on_the_point_that_they_name() -> None:
    for word in HATS:
        assert Worn(word).where == "head"
    assert {Worn(word).where for word in ("glasses", "scarf")} == {"face", "neck"}
