"""What lies behind and before the things of a page: a place or a plain ground, the light, the weather."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from perfusion_registry.storybook2.world.colours import COLOURS, Rgb, oklab, srgb
from perfusion_registry.storybook2.world.drawing import Drawing, alone, places
from perfusion_registry.storybook2.world.raster import Rasters, dyed, rasterised

SIZE = 256
LIGHTS = ("day", "sunset", "night")
WEATHERS = ("rain", "snowfall", "fog")
_OUTDOORS = frozenset(
    ("beach", "city", "desert", "farm", "forest", "garden", "jungle", "meadow", "mountain-top", "mountains",
     "playground", "sea", "snow")
)  # fmt: skip
_BACKDROPS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "grey")
_HEAVENLY = ("sun", "moon")
_DRY = frozenset(("snow", "desert", "mountain-top"))  # nobody could tell what falls there
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scenery:
    """Where a page is set.

    place: the name of its drawing, or None for a plain ground in `colour`, whose floor begins at `horizon`
    (None: no floor is seen). window: the left edge of the page within the place, in pixels. left_out: of the
    props. backdrop: the colour that captions may give a plain ground. seed: of stars and of the weather.
    """

    place: str | None = None
    window: int = 0
    mirrored: bool = False
    left_out: tuple[str, ...] = ()
    light: str = "day"
    weather: str | None = None
    colour: Rgb = (255, 255, 255)
    backdrop: str | None = None
    horizon: int | None = None
    seed: int = 0

    @property
    def drawing(self) -> Drawing | None:
        """The drawing of the place."""
        return None if self.place is None else places()[self.place]

    @property
    def floats(self) -> bool:
        """Whether things hang freely here."""
        drawing = self.drawing
        return drawing is not None and "floats" in drawing.data

    @property
    def stand(self) -> tuple[float, float]:
        """Between which heights feet may stand, in pixels."""
        drawing = self.drawing
        low, high = (77.0, 90.0) if drawing is None else (drawing.point("stand") or (76.0, 92.0, 0.0))[:2]
        return low * SIZE / 100, high * SIZE / 100

    @property
    def tone(self) -> Floats:
        """The OKLab of what lies behind things, for choosing things that can be seen before it."""
        if self.place is None:
            return oklab(self.colour)
        tone = _tone(self.place)
        if self.light == "night":
            tone = tone * np.array([0.62, 1, 1], np.float32)
        if self.weather == "fog":
            pale = np.array([0.67 if self.light == "night" else 0.94, 0, 0], np.float32)
            tone = np.asarray(0.4 * tone + 0.6 * pale, np.float32)
        return tone

    @property
    def dark(self) -> bool:
        """Whether things are seen by night."""
        drawing = self.drawing
        return self.light == "night" or (drawing is not None and drawing.data["light"] == "night")

    @property
    def cast(self) -> tuple[float, float, float]:
        """What the light multiplies the colours of things by."""
        return {"night": (0.80, 0.84, 0.98), "sunset": (1.0, 0.94, 0.86), "day": (1.0, 1.0, 1.0)}[self.light]


def sample_scenery(rng: Random) -> Scenery:
    """A place in nine pages of ten, else a plain ground."""
    seed = rng.randrange(2**32)
    if rng.random() < 0.13:
        return _plain(rng, seed)
    name = rng.choice(list(places()))
    drawing = places()[name]
    light, weather = "day", None
    if name in _OUTDOORS:
        light = rng.choices(LIGHTS, (0.8, 0.08, 0.12))[0]
        if light != "sunset" and name not in _DRY and rng.random() < 0.16:
            weather = rng.choice(WEATHERS)
    window, mirrored = rng.randint(0, SIZE * 7 // 5 - SIZE), rng.random() < 0.5
    unseen = {name for name in _HEAVENLY if _is_cut(drawing, name, window)}
    if light == "night" or weather is not None:
        unseen.add("sun")
    left_out = tuple(prop for prop in drawing.props if rng.random() < 0.25 or prop in unseen)
    return Scenery(name, window, mirrored, left_out, light, weather, seed=seed)


def _is_cut(place: Drawing, prop: str, window: int) -> bool:
    """Whether the page's edge would cut a sun or moon."""
    span = _span(place.name, prop)
    return span is not None and any(span[0] < edge < span[1] for edge in (window, window + SIZE))


@cache
def _span(place: str, prop: str) -> tuple[float, float] | None:
    """Left and right edge of a prop in pixels of its place; None where the place has no such prop."""
    group = alone(places()[place].svg, prop)
    if group is None:
        return None
    columns = np.flatnonzero(rasterised(group, 140, 100)[..., 3].any(0))
    return float(columns[0]) * SIZE / 100, (float(columns[-1]) + 1) * SIZE / 100


def _plain(rng: Random, seed: int) -> Scenery:
    """A ground of one colour, with or without a floor."""
    horizon = rng.randint(150, 190) if rng.random() < 0.5 else None
    if rng.random() < 0.45:
        backdrop = rng.choice(
            ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "grey")
        )
        return Scenery(colour=_pale(backdrop), backdrop=backdrop, horizon=horizon, seed=seed)
    if rng.random() < 0.35:
        return Scenery(colour=(250, 249, 247), backdrop="white", horizon=horizon, seed=seed)
    lightness = rng.choice((0.95, 0.9, 0.84, 0.7, 0.5))
    return Scenery(
        colour=srgb(lightness, rng.uniform(0, 0.04), rng.uniform(0, 360)), horizon=horizon, seed=seed
    )


def _pale(colour: str) -> Rgb:
    """A named colour as a ground has it: light, and calmer than things."""
    lightness, chroma, hue = COLOURS[colour]
    return srgb(max(0.8, min(0.9, lightness + 0.22)), chroma * 0.5, hue)


@cache
def _tone(place: str) -> Floats:
    """The mean colour of a place where things stand and above, in OKLab."""
    small = rasterised(places()[place].svg, 56, 40)[..., :3].astype(np.float32)
    mean: Floats = oklab(small[14:37].reshape(-1, 3)).mean(0)
    return mean


def background(scenery: Scenery, rasters: Rasters) -> Floats:
    """What lies behind the things (SIZE, SIZE, 3) in 0..255."""
    drawing = scenery.drawing
    if drawing is None:
        canvas = np.empty((SIZE, SIZE, 3), np.float32)
        canvas[:] = scenery.colour
        if scenery.horizon is not None:
            canvas[scenery.horizon :] *= 0.93
        return canvas
    canvas = _window(scenery, rasters, "rest")[0]
    if scenery.light == "night":
        canvas *= np.array([0.40, 0.45, 0.68], np.float32)
        _stars(canvas, drawing, scenery.seed)
    elif scenery.light == "sunset":
        glow = np.linspace(1, 0.25, SIZE, dtype=np.float32)[:, None, None]
        warm = np.array([255, 150, 90], np.float32)
        canvas[:] = canvas * (1 - 0.45 * glow) + warm * (0.45 * glow)
    if scenery.weather == "rain":
        canvas *= 0.84
    elif scenery.weather == "fog":
        canvas[:] = canvas * 0.42 + 0.58 * (150 if scenery.light == "night" else 236)
    return canvas


def foreground(scenery: Scenery, rasters: Rasters) -> tuple[Floats, Floats] | None:
    """What lies before the feet, (SIZE, SIZE, 3) times its coverage (SIZE, SIZE); None where nothing does."""
    drawing = scenery.drawing
    if drawing is None or "near" not in drawing.groups:
        return None
    paint, cover = _window(scenery, rasters, "near")
    if scenery.light == "night":
        paint *= np.array([0.40, 0.45, 0.68], np.float32)
    elif scenery.light == "sunset":
        paint *= np.array([1.0, 0.88, 0.78], np.float32)
    return paint, cover


def weather(canvas: Floats, scenery: Scenery) -> None:
    """Paint what falls before everything, or drifts."""
    rng = np.random.default_rng(scenery.seed + 1)
    if scenery.weather == "fog":
        canvas[:] = canvas * 0.86 + 0.14 * 236
    elif scenery.weather is not None:
        layer = Image.new("L", (2 * SIZE, 2 * SIZE))
        pen = ImageDraw.Draw(layer)
        if scenery.weather == "rain":
            for x, y in rng.uniform(-40, 2 * SIZE + 40, (90, 2)):
                pen.line((x, y, x - 9, y + 30), fill=150, width=3)
            tone = np.array([205, 225, 245], np.float32)
        else:
            for x, y, r in rng.uniform((0, 0, 2), (2 * SIZE, 2 * SIZE, 5.5), (110, 3)):
                pen.ellipse((x - r, y - r, x + r, y + r), fill=240)
            tone = np.array([255, 255, 255], np.float32)
        cover = np.asarray(layer.reduce(2), np.float32)[..., None] / 255
        canvas[:] = canvas * (1 - cover) + tone * cover


def _window(scenery: Scenery, rasters: Rasters, layer: str) -> tuple[Floats, Floats]:
    """The part of a place that the page shows: colours times the coverage, and the coverage."""
    drawing = scenery.drawing
    assert drawing is not None
    stack = rasters.place(drawing, SIZE, layer, scenery.left_out)
    wide = np.zeros((SIZE, SIZE * 7 // 5, 4), np.float32)
    if stack is not None:
        h, w = stack.alpha.shape
        part = wide[stack.y : stack.y + h, stack.x : stack.x + w]
        part[..., :3] = dyed(stack, drawing.defaults)
        part[..., 3] = stack.alpha / np.float32(255)
    shown = wide[:, scenery.window : scenery.window + SIZE]
    if scenery.mirrored:
        shown = shown[:, ::-1]
    return shown[..., :3].copy(), shown[..., 3].copy()


def _stars(canvas: Floats, drawing: Drawing, seed: int) -> None:
    """A few stars in the sky of a night."""
    ground = (drawing.point("ground") or (50.0, 0, 0))[0] * SIZE / 100
    rng = np.random.default_rng(seed)
    for x, y in rng.uniform((4, 4), (SIZE - 4, max(ground * 0.62, 30)), (22, 2)).astype(int):
        canvas[y : y + 2, x : x + 2] = (244, 240, 214)
