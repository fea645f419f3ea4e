"""Scenery: the places of the world, each a backdrop with shapes behind and before the subjects."""

from __future__ import annotations

from random import Random

from perfusion_registry.storybook.world.individual import COLOURS
from perfusion_registry.storybook.world.shape import RGB, Backdrop, Shape, box, darker, ellipse, flat, mix

SCENES = (
    "on the beach", "in the snow", "in outer space", "at night", "in a garden", "on the sea", "in a room",
    "by the fire",
)  # fmt: skip
"""The places by the words that captions use."""


class Scenery:
    """One drawn place: `backdrop`, shapes `behind` the subjects and `before` them, drawn once from `rng`."""

    def __init__(self, rng: Random, scene: str | None) -> None:
        self.rng = rng
        self.horizon = rng.uniform(0.05, 0.4)
        self.behind: list[Shape] = []
        self.before: list[Shape] = []
        draw = {
            "on the beach": self._beach, "in the snow": self._snow, "in outer space": self._space,
            "at night": self._night, "in a garden": self._garden, "on the sea": self._sea,
            "in a room": self._room, "by the fire": self._fire, None: self._plain,
        }  # fmt: skip
        self.backdrop: Backdrop = draw[scene]()

    def _u(self, low: float, high: float) -> float:
        return self.rng.uniform(low, high)

    def _near(self, r: float, g: float, b: float) -> RGB:
        shift = [self._u(-0.04, 0.04) for _ in range(3)]
        return tuple(min(1.0, max(0.0, c + s)) for c, s in zip((r, g, b), shift, strict=True))  # type: ignore[return-value]

    def _side(self, low: float, high: float) -> float:
        return self.rng.choice((-1, 1)) * self._u(low, high)

    def _beach(self) -> Backdrop:
        h, near = self.horizon, self._near
        self.behind.append(flat(box(0, h - 0.02, 1.2, 0.13, near(0.15, 0.5, 0.78), rounding=0)))
        self.behind.append(
            flat(ellipse(self._u(-0.8, 0.8), self._u(-0.85, -0.6), 0.15, 0.15, (1.0, 0.93, 0.45)))
        )
        if self.rng.random() < 0.7:
            x = self._side(0.8, 0.88)
            self.behind.append(flat(box(x, h - 0.15, 0.05, 0.42, (0.5, 0.35, 0.2), rounding=0)))
            for s in (-1, 1):
                self.behind.append(
                    flat(ellipse(x + s * 0.17, h - 0.55, 0.21, 0.065, (0.2, 0.55, 0.25), angle=s * 0.45))
                )
            self.behind.append(flat(ellipse(x, h - 0.6, 0.075, 0.2, (0.2, 0.55, 0.25))))
        return Backdrop(
            (near(0.45, 0.75, 0.95), near(0.75, 0.9, 0.98)),
            h,
            (near(0.95, 0.85, 0.6), near(0.88, 0.75, 0.48)),
        )

    def _snow(self) -> Backdrop:
        h, near = self.horizon, self._near
        for _ in range(self.rng.randint(1, 3)):
            x = self._side(0.5, 0.95)
            self.behind.append(
                flat(box(x, h - 0.25, 0.2, 0.36, near(0.15, 0.4, 0.3), taper=1.0, rounding=0.02))
            )
            self.behind.append(
                flat(box(x, h - 0.43, 0.13, 0.18, (0.92, 0.95, 0.98), taper=1.0, rounding=0.02))
            )
        for _ in range(14):
            self.before.append(flat(ellipse(self._u(-1, 1), self._u(-1, 1), 0.026, 0.026, (1, 1, 1))))
        return Backdrop(
            (near(0.65, 0.75, 0.88), near(0.85, 0.9, 0.96)), h, (near(0.97, 0.98, 1.0), near(0.86, 0.9, 0.97))
        )

    def _space(self) -> Backdrop:
        near = self._near
        for _ in range(18):
            r = self._u(0.014, 0.03)
            self.behind.append(flat(ellipse(self._u(-1, 1), self._u(-1, 1), r, r, (1, 1, 0.9))))
        x, y, r = self._side(0.55, 0.8), self._u(-0.8, -0.4), self._u(0.16, 0.28)
        planet = COLOURS[self.rng.choice(("orange", "red", "purple", "blue"))]
        self.behind.append(ellipse(x, y, r, r, planet, outline=0))
        self.behind.append(
            flat(ellipse(x, y, r * 1.6, r * 0.3, mix(planet, (1, 1, 1), 0.5), angle=-0.3, hollow=0.022))
        )
        return Backdrop((near(0.03, 0.02, 0.10), near(0.10, 0.05, 0.22)), 1.2)

    def _night(self) -> Backdrop:
        h, near = self.horizon, self._near
        x, y = self._side(0.4, 0.8), self._u(-0.85, -0.55)
        self.behind.append(flat(ellipse(x, y, 0.18, 0.18, (0.98, 0.96, 0.8))))
        self.behind.append(flat(ellipse(x + 0.08, y - 0.04, 0.15, 0.15, (0.06, 0.08, 0.25))))
        for _ in range(8):
            self.behind.append(flat(ellipse(self._u(-1, 1), self._u(-1, h), 0.02, 0.02, (1, 1, 0.85))))
        for _ in range(2):
            self.behind.append(
                flat(
                    ellipse(
                        self._u(-1, 1), h + 0.1, self._u(0.5, 0.8), self._u(0.2, 0.35), (0.08, 0.15, 0.24)
                    )
                )
            )
        self.behind.append(flat(box(0, h + 0.75, 1.2, 0.75, near(0.06, 0.16, 0.16), rounding=0)))
        return Backdrop(
            (near(0.04, 0.06, 0.22), near(0.12, 0.17, 0.40)),
            h,
            (near(0.07, 0.16, 0.16), near(0.04, 0.10, 0.10)),
        )

    def _garden(self) -> Backdrop:
        h, near = self.horizon, self._near
        for i in range(5):
            self.behind.append(
                flat(
                    ellipse(
                        -1 + i * 0.5 + self._u(-0.1, 0.1), h, 0.32, self._u(0.2, 0.36), near(0.2, 0.5, 0.22)
                    )
                )
            )
        self.behind.append(flat(box(0, h + 0.75, 1.2, 0.72, near(0.40, 0.72, 0.30), rounding=0)))
        for _ in range(self.rng.randint(7, 11)):
            x, y = self._u(-1, 1), self._u(h + 0.1, 0.98)
            petal = COLOURS[self.rng.choice(("red", "yellow", "pink", "white", "purple"))]
            self.behind.append(flat(ellipse(x, y, 0.065, 0.065, petal)))
            self.behind.append(flat(ellipse(x, y, 0.027, 0.027, (1, 0.9, 0.3))))
        return Backdrop(
            (near(0.6, 0.85, 0.97), near(0.85, 0.95, 0.98)),
            h,
            (near(0.42, 0.74, 0.32), near(0.28, 0.58, 0.22)),
        )

    def _sea(self) -> Backdrop:
        self.horizon = h = self._u(-0.1, 0.2)
        near = self._near
        if self.rng.random() < 0.7:
            x, y = self._side(0.55, 0.7), self._u(-0.85, -0.65)
            self.behind += [
                flat(ellipse(x + d * 0.14, y + abs(d) * 0.04, 0.17, 0.1, (1, 1, 1))) for d in (-1, 0, 1)
            ]
        offset = self._u(0, 0.3)
        for row, top in enumerate((0.80, 0.94)):
            water = near(0.12, 0.44, 0.74) if row == 0 else near(0.08, 0.36, 0.66)
            self.before.append(flat(box(0, top + 0.28, 1.2, 0.24, water, rounding=0)))
            centres = [-1.05 + i * 0.42 + offset + row * 0.2 for i in range(6)]
            self.before += [flat(ellipse(x, top + 0.08, 0.24, 0.10, water)) for x in centres]
            self.before += [flat(ellipse(x, top, 0.11, 0.02, (0.9, 0.97, 1.0))) for x in centres]
        return Backdrop(
            (near(0.5, 0.78, 0.96), near(0.82, 0.93, 0.99)),
            h,
            (near(0.2, 0.55, 0.82), near(0.08, 0.35, 0.66)),
        )

    def _room(self) -> Backdrop:
        self.horizon = h = self._u(0.15, 0.45)
        near = self._near
        wall = mix(COLOURS[self.rng.choice(("yellow", "pink", "blue", "green", "orange"))], (1, 1, 1), 0.55)
        self.behind.append(flat(box(0, h, 1.2, 0.035, (0.97, 0.96, 0.93), rounding=0)))
        x, y, white = self._side(0.5, 0.65), self._u(-0.6, -0.45), (0.97, 0.97, 0.95)
        self.behind.append(box(x, y, 0.28, 0.31, white, rounding=0.05, outline=0.5, shade=0))
        self.behind.append(flat(box(x, y, 0.23, 0.26, (0.6, 0.83, 0.97), rounding=0.02)))
        self.behind.append(flat(box(x, y, 0.022, 0.26, white, rounding=0)))
        self.behind.append(flat(box(x, y, 0.23, 0.022, white, rounding=0)))
        return Backdrop((wall, darker(wall, 0.95)), h, (near(0.62, 0.42, 0.26), near(0.5, 0.32, 0.18)))

    def _fire(self) -> Backdrop:
        self.horizon = 0.45
        near = self._near
        x = self._side(0.5, 0.62)
        self.behind.append(
            box(x, 0.05, 0.40, 0.52, (0.50, 0.48, 0.46), rounding=0.05, outline=0.6, shade=0.4)
        )
        self.behind.append(flat(box(x, 0.14, 0.28, 0.38, (0.08, 0.04, 0.03), rounding=0.05)))
        for d, tall in ((-0.12, 0.2), (0.12, 0.2), (0.0, 0.3)):
            self.behind.append(flat(ellipse(x + d, 0.42 - tall * 0.8, 0.11, tall, (0.98, 0.45, 0.08))))
            self.behind.append(flat(ellipse(x + d, 0.46 - tall * 0.6, 0.06, tall * 0.6, (1.0, 0.85, 0.25))))
        self.behind.append(flat(box(x, 0.5, 0.3, 0.045, (0.35, 0.2, 0.1), rounding=0.5)))
        self.behind.append(flat(box(x, -0.5, 0.46, 0.055, (0.40, 0.25, 0.15), rounding=0.2)))
        return Backdrop(
            (near(0.34, 0.18, 0.14), near(0.46, 0.25, 0.16)),
            0.45,
            (near(0.36, 0.20, 0.12), near(0.26, 0.14, 0.09)),
        )

    def _plain(self) -> Backdrop:
        tone = mix(COLOURS[self.rng.choice(tuple(COLOURS))], (1, 1, 1), self._u(0.45, 0.85))
        return Backdrop((tone, tone), self._u(0.3, 0.6), (darker(tone, 0.9), darker(tone, 0.8)))
