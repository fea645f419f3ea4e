"""The metrics: what people call them, what they mean, and how their numbers are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Protocol

from pydantic import AfterValidator, WithJsonSchema

from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.base.identity import BaseIdentity
from perfusion_registry.errors import PerfError
from perfusion_registry.plugins import load_object, load_plugin
from perfusion_registry.worlds import Metric, World

WORLDS = {
    "storybook": "perfusion_registry.storybook.judging:WORLD",
    "storybook2": "perfusion_registry.storybook2.judging:WORLD",
}
"""The drawn worlds that come with perf, the usual one first."""

USUAL = "storybook"
"""The world that judges pictures of a base which belongs to none."""

ENTRY_POINTS = "perfusion_registry.worlds"
"""The group in which distributions name further ones."""


def world(name: str = USUAL) -> World:
    """A drawn world by its name. Raises PerfError where it is not installed."""
    if name in WORLDS:
        shipped: World = load_object(WORLDS[name])
        return shipped
    kind: type[World] = World  # type: ignore[type-abstract]
    brought = load_plugin(ENTRY_POINTS, name, kind, f"drawn world `{name}`")
    if brought is None:
        raise PerfError(f"the drawn world `{name}` is not installed", hint="install what brings it")
    return brought


def world_of(base: BaseIdentity) -> str:
    """The name of the world that a base belongs to, as its bounds file says; `USUAL` of one that says
    none."""
    return BaseBounds.of(base).world or USUAL


def _of_worlds() -> dict[str, Metric]:
    """The metrics of all worlds that come with perf; of those of one name, as the first world has it."""
    found: dict[str, Metric] = {}
    for name in WORLDS:
        for key, metric in world(name).metrics.items():
            found.setdefault(key, metric)
    return found


METRICS: Mapping[str, Metric] = {
    "image": Metric(
        "image similarity",
        "Mean CLIP cosine between a picture and each of the concept's own images, on shape-preserving "
        "prompts where the figure has any.",
        "similarity",
    ),
    "text": Metric(
        "text similarity",
        "CLIP cosine between a picture and its prompt, the concept's word left out.",
        "similarity",
    ),
    "text_normalised": Metric(
        "text similarity, normalised",
        "Text similarity as a share of what the supercategory's plain word reaches on the same prompts and "
        "seeds, concept by concept. 1: as well as the word alone.",
        "similarity",
        derived=True,
    ),
    "harmonic": Metric(
        "harmonic mean",
        "Of image similarity and normalised text similarity, concept by concept.",
        "similarity",
        derived=True,
    ),
    "dino": Metric(
        "DINO similarity",
        "Image similarity by a self-supervised model, which tells individuals of one kind apart better than "
        "CLIP does.",
        "similarity",
    ),
    "leakage": Metric(
        "attention outside the concept",
        "The share of the attention to the concept's tokens that falls outside the concept in the finished "
        "picture. Even attention gives the share of the picture that is not the concept.",
        "share",
    ),
    **_of_worlds(),
}
"""Every metric, in the order to show them: of any picture, and what drawn worlds know of their own."""


def _known(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"`{name}` is no metric; there are {', '.join(METRICS)}")
    return name


MetricName = Annotated[str, AfterValidator(_known), WithJsonSchema({"enum": [*METRICS], "type": "string"})]
"""The name of a metric, as suites and results have it."""


def told(metric: MetricName, value: float, *, signed: bool = False) -> str:
    """A number as people read it: a true minus sign, no sign before nothing, and digits enough to be seen."""
    similarity = METRICS[metric].kind == "similarity"
    number, unit = (value, "") if similarity else (100 * value, "\N{NO-BREAK SPACE}%")
    least, usual, more = (0.0005, 3, 5) if similarity else (1 if signed else 0, 0, 1)
    digits = usual if abs(number) >= least else more
    if not round(number, digits):
        return f"{0:.{usual}f}{unit}"
    return f"{number:{'+' if signed else ''}.{digits}f}{unit}".replace("-", "−")


class Estimated(Protocol):
    """A number and how sure it is."""

    @property
    def value(self) -> float:
        """The number."""
        ...

    @property
    def low(self) -> float | None:
        """The lower end of its interval; None where nothing can be said."""
        ...

    @property
    def high(self) -> float | None:
        """The upper end."""
        ...


class Told(Protocol):
    """A metric's difference, and how sure it is."""

    @property
    def metric(self) -> str:
        """Its name."""
        ...

    @property
    def difference(self) -> Estimated | None:
        """The difference."""
        ...


def in_short(estimate: Estimated | None) -> str:
    """A number and half of its interval for a narrow table; empty where there is none."""
    if estimate is None:
        return ""
    whole = estimate.low is not None and estimate.high is not None
    arms = f" ±{(estimate.high - estimate.low) / 2:.3f}" if whole else ""  # type: ignore[operator]
    return f"{estimate.value:.3f}{arms}"


def plainly(told: Told) -> str:
    """A difference with its interval, in characters that any terminal has."""
    return difference(told.metric, told.difference).replace("\N{NO-BREAK SPACE}", " ")


def difference(metric: MetricName, estimate: Estimated | None) -> str:
    """A difference with its interval, as people read it; empty where there is none."""
    if estimate is None:
        return ""
    value = told(metric, estimate.value, signed=True)
    if estimate.low is None or estimate.high is None:
        return f"{value} (too few prompts or trainings to say how sure)"
    return (
        f"{value} ({told(metric, estimate.low, signed=True)} to {told(metric, estimate.high, signed=True)})"
    )
