"""What a training is to do, in numbers: kept as `plan.json` in the work folder, so that every resume means
the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.training.assembly import Sampler
from perfusion_registry.storybook2.training.autoencoder import AutoencoderPlan
from perfusion_registry.storybook2.training.contrast import ClipPlan
from perfusion_registry.storybook2.training.denoiser import DenoiserPlan
from perfusion_registry.storybook2.training.latents import SHARD, Admission
from perfusion_registry.storybook2.training.recognition import RecogniserPlan
from perfusion_registry.storybook2.training.segmenter import SegmenterPlan
from perfusion_registry.storybook2.training.work import Work


@dataclass(frozen=True)
class Budgets:
    """How much of everything, in pages. save_every: seconds between checkpoints. most_seconds: when a run of
    a stage stops for now, on a machine that is lent for a while.

    shard: pages of a shard. pictured: shards that keep their
    pictures. held_back: those for measuring. read: shards that the recogniser learns from; beyond
    those that keep their pictures it has small ones of its own. redrawn: those that it sees through the
    autoencoder too. A stage's name: pages at the constant rate; with `_fall`, pages over which the rate falls
    at its end. sheet_every and the like: pages of the denoiser.
    """

    shard: int = SHARD
    pictured: int = 30
    held_back: int = 1
    read: int = 120
    redrawn: int = 20
    autoencoder: int = 24_000
    autoencoder_fall: int = 6_000
    decoder: int = 20_000
    decoder_fall: int = 6_000
    recogniser: int = 400_000
    recogniser_fall: int = 100_000
    clip: int = 400_000
    clip_fall: int = 100_000
    segmenter: int = 150_000
    segmenter_fall: int = 50_000
    denoiser: int = 2_000_000
    denoiser_fall: int = 250_000
    sheet_every: int = 15_000
    measure_every: int = 10_000
    snapshot_every: int = 25_000
    report_every: int = 500
    save_every: float = 120.0
    most_seconds: float | None = None


@dataclass(frozen=True)
class Machine:
    """What to train on. threads: of a training. workers: processes that draw. ahead: None to draw in bursts
    of `burst` shards while the training stands still; else how many shards the workers may be ahead of it,
    beside it."""

    device: str = "cpu"
    threads: int = 2
    workers: int = 2
    burst: int = 6
    ahead: int | None = None


@dataclass(frozen=True)
class DecoderPlan:
    """What the decoder is trained on with, beside what `AutoencoderPlan` says.

    noise: the most that is put on latents, in their deviation; each page has a share of it by chance.
    repainted: share of the steps whose pages the denoiser paints anew, from a time between `earliest` and
    `latest` of 1000, in `steps` steps, with `guidance`.
    """

    noise: float = 0.35
    repainted: float = 0.75
    earliest: int = 50
    latest: int = 550
    steps: int = 3
    guidance: float = 3.0
    seed: int = 1


@dataclass(frozen=True)
class MeasurePlan:
    """How a base is measured. pictures: of each kind of question. steps, guidance: as its card says. sampler:
    that of the exported base."""

    pictures: int = 200
    steps: int = 25
    guidance: float = 4.0
    sampler: Sampler = "ddim"


@dataclass(frozen=True)
class Plan:
    """All of it."""

    budgets: Budgets = field(default_factory=Budgets)
    machine: Machine = field(default_factory=Machine)
    autoencoder: AutoencoderPlan = field(default_factory=AutoencoderPlan)
    decoder: DecoderPlan = field(default_factory=DecoderPlan)
    recogniser: RecogniserPlan = field(default_factory=RecogniserPlan)
    clip: ClipPlan = field(default_factory=ClipPlan)
    segmenter: SegmenterPlan = field(default_factory=SegmenterPlan)
    denoiser: DenoiserPlan = field(default_factory=DenoiserPlan)
    admission: Admission = field(default_factory=Admission)
    measure: MeasurePlan = field(default_factory=MeasurePlan)


def read_plan(work: Work) -> Plan:
    """The plan of a work folder; the usual one where it has none."""
    path = work.root / "plan.json"
    if not path.exists():
        return Plan()
    return _checked(path.read_bytes(), str(path))


def write_plan(work: Work, plan: Plan) -> None:
    """Keep the plan in the work folder."""
    work.root.mkdir(parents=True, exist_ok=True)
    beside = work.root / "plan.json.partial"
    beside.write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8")
    beside.replace(work.root / "plan.json")


def changed(plan: Plan, settings: Sequence[str]) -> Plan:
    """The plan with settings such as `denoiser.batch=64`, their values in JSON or bare words."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(plan)))
    for setting in settings:
        path, equals, value = setting.partition("=")
        section, dot, name = path.partition(".")
        if not equals or not dot or name not in told.get(section, {}):
            raise PerfError(
                f"{setting!r} sets nothing of a plan",
                hint="say SECTION.NAME=VALUE with the names of plan.json, such as denoiser.batch=64",
            )
        try:
            told[section][name] = json.loads(value)
        except ValueError:
            told[section][name] = value
    return _checked(json.dumps(told), "--set")


def _checked(text: str | bytes, where: str) -> Plan:
    try:
        return TypeAdapter(Plan).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        raise PerfError(f"{path or 'the plan'}: {first['msg']}", where=where) from None
