"""The metrics: what people call them, what they mean, and how their numbers are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from perfusion_registry.evaluate.suite import MetricName

if TYPE_CHECKING:
    from perfusion_registry.evaluate.results import Measured


@dataclass(frozen=True)
class Metric:
    """A metric.

    kind: a `rate` is 1 or 0 of a picture, and a share of many; a `share` is anything between of each; a
    `similarity` is no part of a whole. derived: of other metrics' means, and not of single pictures.
    """

    title: str
    meaning: str
    kind: Literal["similarity", "share", "rate"] = "rate"
    derived: bool = False


METRICS: dict[MetricName, Metric] = {
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
    "category": Metric("the thing appears", "The recogniser sees a thing of the concept's kind."),
    "look": Metric("its own main colour", "The recogniser names the colour that the individual has."),
    "scene": Metric("the scene appears", "The recogniser names the place that the prompt asks for."),
    "accessory": Metric(
        "the accessory or activity appears", "All that the concept is to wear or to do is there."
    ),
    "material": Metric("the material appears", "It is made of what the prompt asks for."),
    "second": Metric("the second thing appears", "Every other thing that the prompt names is there."),
    "style": Metric("the style appears", "It is a watercolour where one is asked for."),
    "obeyed": Metric(
        "all that was asked appears", "Scene, accessory, material, style and other things, all at once."
    ),
    "identified": Metric(
        "told from 20 look-alikes",
        "Among 20 individuals of its kind, drawn by hand in the same scene and given back by the base's "
        "autoencoder, the picture looks most like the concept. Chance: 5\N{NO-BREAK SPACE}%. Of two "
        "concepts, each must be told from its own look-alikes, in the other's company.",
    ),
    "both": Metric(
        "both individuals recognised",
        "Each of the two concepts is there, in its own main colour or the material that was asked for.",
    ),
}
"""Every metric, in the order to show them."""


def told(metric: MetricName, value: float, *, signed: bool = False) -> str:
    """A number as people read it: a true minus sign, no sign before nothing, and digits enough to be seen."""
    similarity = METRICS[metric].kind == "similarity"
    number, unit = (value, "") if similarity else (100 * value, "\N{NO-BREAK SPACE}%")
    least, usual, more = (0.0005, 3, 5) if similarity else (1 if signed else 0, 0, 1)
    digits = usual if abs(number) >= least else more
    if not round(number, digits):
        return f"{0:.{usual}f}{unit}"
    return f"{number:{'+' if signed else ''}.{digits}f}{unit}".replace("-", "−")


def difference(metric: MetricName, found: Measured | None) -> str:
    """A difference with its interval, as people read it; empty where there is none."""
    if found is None:
        return ""
    value = told(metric, found.value, signed=True)
    if found.low is None or found.high is None:
        return f"{value} (too few prompts to say how sure)"
    return f"{value} ({told(metric, found.low, signed=True)} to {told(metric, found.high, signed=True)})"
