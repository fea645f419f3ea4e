"""What a run of a suite has before it begins: where it computes, its bases, its plan, what is still to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Store
from perfusion_registry.artifact.durations import Durations
from perfusion_registry.base import BaseDescription, describe_base
from perfusion_registry.base.digest import file_digest
from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.base.reference import EMBEDDED, BaseReference
from perfusion_registry.cache_folder import expand_user
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.choosing import check_methods
from perfusion_registry.evaluate.environment import judges
from perfusion_registry.evaluate.metrics import world_of
from perfusion_registry.evaluate.nearest import with_nearest
from perfusion_registry.evaluate.parts import NOWHERE, Elsewhere
from perfusion_registry.evaluate.plan import Outline, outline
from perfusion_registry.evaluate.sources import sources
from perfusion_registry.evaluate.suite import Suite
from perfusion_registry.evaluate.worker import WorkerSetup, without_clip
from perfusion_registry.resolve.covariance import check_encoder, covariance_file

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SuiteBases:
    """Where the bases of a suite come from. describe: of its references, absolute where they are paths. own:
    the reference of a suite that names none. covariance: of the suite's base, where it is not that base's."""

    describe: Callable[[str], BaseDescription] = describe_base
    own: str = EMBEDDED
    covariance: Path | None = None


@dataclass(frozen=True)
class Workplace:
    """Where to compute and to keep things. jobs: processes at once. root: the folder of the store. elsewhere:
    what other machines have done."""

    root: Path
    out: Path
    device: str = "auto"
    dtype: str = "auto"
    jobs: int = 1
    bases: SuiteBases = SuiteBases()
    offload: Offload | None = None
    elsewhere: Elsewhere = NOWHERE


@dataclass(frozen=True)
class Ahead:
    """What a run would have to do: builds and pictures that are not there yet, of how many. seconds: of
    these, by the latest of their kinds here, in one process; None where one of the kinds was never
    done."""

    builds: tuple[int, int]
    pictures: tuple[int, int]
    seconds: float | None
    skipped: Mapping[str, str]


def prepared(
    suite: Suite,
    where: Path,
    place: Workplace,
    *,
    figures: Sequence[str] = (),
    budget: Budget | None = None,
) -> tuple[Outline, WorkerSetup]:
    """The plan of a run and what its processes need to know; nothing is built or drawn."""
    from perfusion_registry.base.device import choose_device

    for identity in figures:
        suite.figure(identity)  # a misspelt one is told before anything is read
    check_methods(suite, budget or Budget())
    describe = place.bases.describe
    reference = place.bases.own if suite.base is None else _beside(suite.base, where)
    base = describe(reference)
    named = {name: _beside(other, where) for name, other in suite.bases.items() if other}
    covariance = base.covariance
    if suite.covariance:
        covariance = where.parent / suite.covariance
    elif place.bases.covariance is not None:
        covariance = place.bases.covariance
    suite = suite.model_copy(update={"base": reference, "bases": {**suite.bases, **named}})
    if covariance is None or not covariance.is_file():
        raise PerfError(
            "the suite's base comes without a covariance",
            where=str(covariance or reference),
            hint="run `perf covariance CAPTIONS --out FILE`, and name it as `covariance` in the suite",
        )
    check_encoder(covariance_file(covariance), base)
    bases = {"": base} | {name: describe(other) for name, other in named.items()}
    for name, other in bases.items():
        if other.family != base.family:
            raise PerfError(
                f"the base {name!r} is of another family than {reference}, and a suite draws its concepts "
                "on bases of one family",
                where=suite.bases[name],
            )
    device = choose_device(place.device)
    dino = (where.parent / expand_user(suite.dino)).resolve() if suite.dino else None
    clip = (where.parent / expand_user(suite.clip)).resolve() if suite.clip else None
    if clip is None and base.clip is None:
        raise without_clip(reference)
    setting = WorkerSetup(
        root=place.root,
        base=reference,
        covariance=covariance,
        device=place.device,
        dtype=place.dtype,
        offload=place.offload,
        dino=dino,
        bases={reference: base} | {named[name]: bases[name] for name in named},
        clip=clip,
    )
    found = sources(suite, where, world_of(base))
    wanted = {*figures, *(search for identity in figures for search in suite.figure(identity).searches)}
    asked = [figure for figure in suite.figures if not wanted or figure.id in wanted]
    if any(variant.nearest_word for figure in asked for variant in figure.variants):
        found = with_nearest(found, base, clip, device)
    plan = outline(
        suite,
        found,
        bases,
        file_digest(covariance),
        figures=figures,
        budget=budget,
        computing=(device.type, _number_formats(device, place.dtype)),
        judges=judges(base, dino, clip),
    )
    return plan, setting


def ahead(plan: Outline, root: Path, elsewhere: Elsewhere = NOWHERE) -> Ahead:
    """How much of a plan is still to be done; what several figures share counts once, and what is done
    elsewhere does not."""
    store, caches = Store(root), elsewhere.caches(root)
    artifacts = {order.digest: elsewhere.built(order, store) for order in plan.orders}
    # What is not built yet stands in by its digest: nothing can have been drawn with that.
    stand_in = {digest: sha256 or digest for digest, sha256 in artifacts.items()}
    every: set[str] = set()
    missing: set[str] = set()
    durations, drawing = Durations(root), []
    for order in dict.fromkeys(plan.drawn(cell, stand_in) for cell in plan.cells):
        every |= set(order.keys().values())
        new = set.intersection(*(set(order.missing(cache).values()) for cache in caches)) - missing
        missing |= new
        if new:
            drawing.append((durations.latest(order.kind), len(new)))
    unbuilt = [order for order in plan.orders if artifacts[order.digest] is None]
    building = [(durations.latest(order.kind), order.steps) for order in unbuilt]
    took = [None if time is None else time.of(number) for time, number in (*building, *drawing)]
    known = [seconds for seconds in took if seconds is not None]
    seconds = sum(known) if len(known) == len(took) else None
    return Ahead((len(unbuilt), len(artifacts)), (len(missing), len(every)), seconds, plan.skipped)


def _beside(reference: str, where: Path) -> str:
    """A base's reference with a relative path made absolute, as seen from the suite's file."""
    return BaseReference.parse(reference, where=str(where)).seen_from(where.parent)


def _number_formats(device: torch.device, wanted: str) -> str:
    """The format of the weights and, where it is another, of the products: "float32 in bfloat16"."""
    from perfusion_registry.base.device import choose_formats

    formats = choose_formats(device, wanted)
    return " in ".join(dict.fromkeys(str(kind).removeprefix("torch.") for kind in formats))
