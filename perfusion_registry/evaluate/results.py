"""The result of an evaluation: `results.json`, from which reports and other analyses are made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.costs import Cost
from perfusion_registry.evaluate.metrics import MetricName
from perfusion_registry.evaluate.suite import Bootstrap, FigureKind, Suite
from perfusion_registry.methods.settings import Value
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.writing import replace_bytes

RESULTS = "results.json"

Verdict = Literal["holds", "fails", "open", "unmeasured"]


Settings = Annotated[dict[str, Value], Field(exclude_if=lambda settings: not settings)]
"""Values of a method's settings, by field."""


_Training = Annotated[int, Field(ge=0, exclude_if=lambda training: training == 0)]


class ImageRecord(FileModel):
    """One picture. concepts: whom it is judged by. point: the label of its operating point. picture: its
    file, beside the results. settings: what its point sets, by field; bias to key_lock are those of them that
    perfusion has. training: which one of its concepts, from 0 on. metrics: those that say something of it."""

    figure: str
    variant: str
    point: str
    method: str
    bias: float | None
    temperature: float | None
    key_lock: str | None
    settings: Settings = Field(default_factory=dict)
    concepts: tuple[str, ...]
    group: str
    shape_preserving: bool
    prompt: str
    template: str
    seed: int
    training: _Training = 0
    picture: str
    attention: str | None = None
    metrics: dict[MetricName, float]


class Measured(FileModel):
    """A score with its 95 % interval; None where the interval cannot be told. pictures: how many it is
    over."""

    value: float
    low: float | None
    high: float | None
    pictures: Annotated[int, Field(ge=0)]


class PointResult(FileModel):
    """The scores of an operating point: balanced over classes, and of each class. settings: what it sets, by
    field."""

    label: str
    variant: str
    bias: float | None
    temperature: float | None
    settings: Settings = Field(default_factory=dict)
    metrics: dict[MetricName, Measured]
    classes: dict[str, dict[MetricName, float]]


class BestPoint(FileModel):
    """For each class the point of the greatest harmonic mean, and the scores of that choice."""

    choice: dict[str, str]
    metrics: dict[MetricName, Measured]


class ClaimResult(FileModel):
    """What became of an ordering that the paper claims.

    difference: of `better` over `than` (turned round where less is better), from the same prompts and seeds.
    verdict: `holds` or `fails` where its interval leaves zero out, else `open`.
    """

    text: str
    metric: MetricName
    better: str
    than: str | None
    at_least: float | None
    less: bool
    better_value: float | None
    than_value: float | None
    difference: Measured | None
    verdict: Verdict


class Contrast(FileModel):
    """A variant beside the one that it is compared with, in one metric.

    difference: of `variant` over `against`, from the same prompts and seeds. verdict: `better` or `worse`
    where its interval leaves zero out, `not told apart` where it holds zero, `too few` where there is no
    interval.
    """

    metric: MetricName
    variant: str
    against: str
    value: float
    against_value: float
    difference: Measured
    verdict: Literal["better", "worse", "not told apart", "too few"]


class FigureResult(FileModel):
    """A figure's scores. contrasts: of its variants that are compared with others of it. chosen: of one that
    searches, the point that was taken. left_out: why it was not drawn, or ""."""

    id: str
    title: str
    about: str
    kind: FigureKind
    points: tuple[PointResult, ...] = ()
    best: BestPoint | None = None
    claims: tuple[ClaimResult, ...] = ()
    contrasts: Annotated[tuple[Contrast, ...], Field(exclude_if=lambda found: not found)] = ()
    chosen: Annotated[str | None, Field(exclude_if=lambda label: label is None)] = None
    left_out: str = ""


class Environment(FileModel):
    """What it was measured with. processor: of the machine. bases: digests by their names in the suite."""

    perf: str
    libraries: dict[str, str]
    base: str
    base_digest: str
    base_revision: str | None
    bases: dict[str, str]
    covariance: str
    device: str
    dtype: str
    processor: str
    dino: str | None = None


class GatedToken(FileModel):
    """A token of a prompt, or a run of padding. similarity, gate: by concept."""

    word: str
    concept: str | None
    similarity: dict[str, float]
    gate: dict[str, float]


class GateTable(FileModel):
    """The gates of a prompt under one point of a figure. biases, temperatures: by concept, where its method
    has them."""

    figure: str
    point: str
    prompt: str
    biases: dict[str, float]
    temperatures: dict[str, float]
    tokens: tuple[GatedToken, ...]


class DrawnOptions(FileModel):
    """The options with which one point of a figure draws a concept that no gate table tells of. summary: as
    its method says them."""

    figure: str
    point: str
    concept: str
    method: str
    options: dict[str, Value]
    summary: str


class ConceptResult(FileModel):
    """A concept as one variant built it. training: which one of it, from 0 on. bytes: of the artifact.
    cost: of the training, where it was measured: not of what was there before. images: its references,
    beside the results."""

    figure: str
    variant: str
    name: str
    group: str
    supercategory: str
    sha256: str
    training: _Training = 0
    bytes: int | None = None
    cost: Cost | None = None
    steps_kept: int
    images: tuple[str, ...]


class ComparedRow(FileModel):
    """A variant on the table of a comparison.

    What it cost is the mean over its trainings, None where nobody measured it: parameters that are
    learned, bytes of the artifact, seconds, bytes of memory at most. metrics: by figure.
    """

    variant: str
    method: str
    trainings: Annotated[int, Field(ge=0)]
    parameters: float | None
    bytes: float | None
    seconds: float | None
    memory: float | None
    metrics: dict[str, dict[MetricName, Measured]]


class Conclusion(FileModel):
    """A sentence that follows from the numbers. kind: whom it speaks for: `against` those that the others are
    compared with, `for` them, `open` where nothing is decided, and `limits` of what all this can say."""

    kind: Literal["against", "open", "for", "limits"]
    text: str


class Compared(FileModel):
    """The table of a comparison, and what follows from it, what speaks against the compared first."""

    rows: tuple[ComparedRow, ...]
    conclusions: tuple[Conclusion, ...]


class Results(FileModel):
    """The whole of `results.json`. suite: as it was read, before the budget shrank it."""

    schema_version: Literal[1] = 1
    suite: Suite
    budget: Budget
    bootstrap: Bootstrap
    environment: Environment
    concepts: tuple[ConceptResult, ...]
    figures: tuple[FigureResult, ...]
    comparison: Annotated[Compared | None, Field(exclude_if=lambda table: table is None)] = None
    gates: tuple[GateTable, ...] = ()
    options: Annotated[tuple[DrawnOptions, ...], Field(exclude_if=lambda drawn: not drawn)] = ()
    images: tuple[ImageRecord, ...]

    def to_json(self) -> str:
        """The file's text: the same results give the same bytes."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def spoken(label: str) -> str:
    """The label of a point as people read it."""
    first, *others = label.split("@")
    told = [
        re.sub(r"^t(?=[\d.])", "temperature ", other).replace("=", " ").replace("_", " ") for other in others
    ]
    return " at ".join((first, *told))


def write_results(results: Results, folder: Path) -> Path:
    """Write `results.json` into a folder; its path."""
    path = folder / RESULTS
    replace_bytes(path, results.to_json().encode())
    return path


def read_results(path: Path) -> Results:
    """Read results; raises PerfError for a file of another version, or one that was changed since."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PerfError(f"the results cannot be read: {error.strerror}", where=str(path)) from error
    try:
        return Results.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "file"
        raise PerfError(
            f"these are not results that perf can read: {key}: {first['msg']}",
            where=str(path),
            hint="run `perf evaluate` again; what is cached is not drawn again",
        ) from error
