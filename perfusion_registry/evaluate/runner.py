"""Running a suite: build, draw and judge what the cache does not hold yet, in as many processes as asked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from perfusion_registry.amounts import count
from perfusion_registry.artifact import Store, load_artifact, read_card
from perfusion_registry.base import BaseDescription, describe_base
from perfusion_registry.base.digest import file_digest
from perfusion_registry.base.reference import EMBEDDED, BaseReference
from perfusion_registry.cache_folder import expand_user
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.aggregate import figure_result
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.drawing import DrawOrder
from perfusion_registry.evaluate.environment import environment, judges
from perfusion_registry.evaluate.gating import GateOrder
from perfusion_registry.evaluate.metrics import MetricName
from perfusion_registry.evaluate.plan import Cell, Outline, compared, outline, points
from perfusion_registry.evaluate.results import (
    ConceptResult,
    DrawnOptions,
    FigureResult,
    GatedToken,
    GateTable,
    ImageRecord,
    Results,
    write_results,
)
from perfusion_registry.evaluate.scoring import ScoreOrder
from perfusion_registry.evaluate.sources import sources
from perfusion_registry.evaluate.suite import WORDS, Suite
from perfusion_registry.evaluate.worker import Worker, WorkerSetup, without_clip
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe.writing import make_folder, replace_bytes
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.resolve.covariance import check_encoder, covariance_file
from perfusion_registry.workers import Run, worker_pool

TABLES = 2
"""Of how many subjects a figure keeps the gates."""


@dataclass(frozen=True)
class SuiteBases:
    """Where the bases of a suite come from. describe: of its references, absolute where they are paths. own:
    the reference of a suite that names none. covariance: of the suite's base, where it is not that base's."""

    describe: Callable[[str], BaseDescription] = describe_base
    own: str = EMBEDDED
    covariance: Path | None = None


@dataclass(frozen=True)
class Workplace:
    """Where to compute and to keep things. jobs: processes at once. root: the folder of the store."""

    root: Path
    out: Path
    device: str = "auto"
    dtype: str = "auto"
    jobs: int = 1
    bases: SuiteBases = SuiteBases()


@dataclass(frozen=True)
class Ahead:
    """What a run would have to do: builds, pictures and judgements that are not there yet, of how many."""

    builds: tuple[int, int]
    pictures: tuple[int, int]
    skipped: Mapping[str, str]


def evaluate(
    suite: Suite,
    where: Path,
    place: Workplace,
    *,
    figures: Sequence[str] = (),
    budget: Budget | None = None,
    reporter: Reporter | None = None,
) -> Results:
    """Run a suite and write `results.json`, with its pictures beside it, into `place.out`.

    where: the suite's file. figures: ids, default all. What is in the store or the cache is not done again,
    so a run that was killed goes on where it was. Raises PerfError for anything that cannot be read, built or
    drawn.
    """
    reporter = reporter or Silent()
    plan, setting = prepared(suite, where, place, figures=figures, budget=budget)
    for name, why in plan.skipped.items():
        reporter.warn(f"figure {name} is left out: {why}")
    cache = Cache(place.root)
    preload = ["perfusion_registry.base.preloaded"]
    pool = worker_pool(partial(Worker, setting), place.jobs, reporter, preload=preload)
    with pool as run:
        built = _build(plan, Store(place.root), run, reporter)
        orders = [(cell, plan.drawn(cell, built)) for cell in plan.cells]
        _draw([order for _, order in orders], suite.render.batch, cache, run, reporter)
        judged = [(cell, order, plan.scored(cell, order)) for cell, order in orders]
        _judge([score for _, _, score in judged], cache, run, reporter)
        gates = _gates(orders, cache, run)
    make_folder(place.out)
    with reporter.stage("Adding up", len(plan.figures)) as stage:
        images = [record for group in judged for record in _records(*group, cache, place.out)]
        found = []
        for figure in plan.figures:
            operating = [point for variant in compared(figure) for point in points(variant)]
            mine = [record for record in images if record.figure == figure.id]
            found.append(figure_result(figure, operating, mine, suite.bootstrap))
            stage.advance(note=f"figure {figure.id}")
    left_out = [
        FigureResult(
            id=name, title=suite.figure(name).title, about="", kind=suite.figure(name).kind, left_out=why
        )
        for name, why in plan.skipped.items()
    ]
    results = Results(
        suite=suite,
        budget=plan.budget,
        bootstrap=suite.bootstrap,
        environment=environment(plan, setting),
        concepts=tuple(_concepts(plan, built, Store(place.root), place.out)),
        figures=(*found, *left_out),
        gates=tuple(gates),
        options=tuple(_options(plan, built, Store(place.root), gates)),
        images=tuple(images),
    )
    write_results(results, place.out)
    return results


def prepared(
    suite: Suite,
    where: Path,
    place: Workplace,
    *,
    figures: Sequence[str] = (),
    budget: Budget | None = None,
) -> tuple[Outline, WorkerSetup]:
    """The plan of a run and what its processes need to know; nothing is built or drawn."""
    from perfusion_registry.base.device import choose_device, choose_dtype

    for identity in figures:
        suite.figure(identity)  # a misspelt one is told before anything is read
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
        dino=dino,
        bases={reference: base} | {named[name]: bases[name] for name in named},
        clip=clip,
    )
    plan = outline(
        suite,
        sources(suite, where),
        bases,
        file_digest(covariance),
        figures=figures,
        budget=budget,
        computing=(device.type, str(choose_dtype(device, place.dtype)).removeprefix("torch.")),
        judges=judges(base, dino, clip),
    )
    return plan, setting


def ahead(plan: Outline, root: Path) -> Ahead:
    """How much of a plan is still to be done; what several figures share counts once."""
    store, cache = Store(root), Cache(root)
    artifacts = {order.digest: order.built(store) for order in plan.orders}
    # What is not built yet stands in by its digest: nothing can have been drawn with that.
    stand_in = {digest: sha256 or digest for digest, sha256 in artifacts.items()}
    every: set[str] = set()
    missing: set[str] = set()
    for order in dict.fromkeys(plan.drawn(cell, stand_in) for cell in plan.cells):
        every |= set(order.keys().values())
        missing |= set(order.missing(cache).values())
    unbuilt = sum(sha256 is None for sha256 in artifacts.values())
    return Ahead((unbuilt, len(artifacts)), (len(missing), len(every)), plan.skipped)


def _build(plan: Outline, store: Store, run: Run, reporter: Reporter) -> dict[str, str]:
    """The SHA-256 of the artifact for each build order's digest."""
    built = {order.digest: artifact for order in plan.orders if (artifact := order.built(store))}
    # Two orders of one training make two cards of the same tensors; the second finds them in the store.
    todo = [order for order in plan.orders if order.digest not in built]
    if todo:
        with reporter.stage(f"Building {count(len(todo), 'concept')}", len(todo)) as stage:
            for done, (digest, sha256) in run(todo):
                built[digest] = sha256
                stage.advance(note=done.title)
    return built


def _draw(orders: Sequence[DrawOrder], batch: int, cache: Cache, run: Run, reporter: Reporter) -> None:
    """Draw what is missing, each picture once; the orders that keep attention come first."""
    claimed: set[str] = set()
    todo: list[DrawOrder] = []
    for order in sorted(orders, key=lambda order: (not order.attention, order.base, order.prompt)):
        unclaimed = {seed: key for seed, key in order.missing(cache).items() if key not in claimed}
        claimed |= set(unclaimed.values())
        missing = tuple(unclaimed)
        for start in range(0, len(missing), batch):
            todo.append(replace(order, seeds=missing[start : start + batch]))
    if todo:
        total = sum(len(order.seeds) for order in todo)
        with reporter.stage(f"Drawing {count(total, 'picture')}", total) as stage:
            for done, pictures in run(todo):
                stage.advance(pictures, done.title)


def _judge(orders: Sequence[ScoreOrder], cache: Cache, run: Run, reporter: Reporter) -> None:
    once = {order.key(order.keys[0]) + str(order.keys): order for order in orders if order.missing(cache)}
    if once:
        total = sum(len(order.keys) for order in once.values())
        with reporter.stage(f"Judging {count(total, 'picture')}", total) as stage:
            for done, pictures in run(list(once.values())):
                stage.advance(pictures, done.title)


def _gates(orders: Sequence[tuple[Cell, DrawOrder]], cache: Cache, run: Run) -> list[GateTable]:
    """The gates of every figure's first prompt with each of its first subjects, at each gated point."""
    shown: dict[tuple[str, str, tuple[str, ...]], tuple[Cell, GateOrder]] = {}
    subjects: dict[str, list[tuple[str, ...]]] = {}
    for cell, order in orders:
        known = subjects.setdefault(cell.figure, [])
        if cell.subject not in known and len(known) < TABLES:
            known.append(cell.subject)
        key = (cell.figure, cell.point.label, cell.subject)
        if order.gated and cell.subject in known and key not in shown:
            shown[key] = cell, GateOrder(order)
    once = {order.key: order for _, order in shown.values() if order.kept(cache) is None}
    for _ in run(list(once.values())):
        pass
    all_tables = []
    for cell, gates in shown.values():
        values = gates.kept(cache)
        assert values is not None
        if not any(token["gate"] for token in values["tokens"]):
            continue  # a method that needs a covariance may do without gates
        all_tables.append(
            GateTable(
                figure=cell.figure,
                point=cell.point.label,
                prompt=values["prompt"],
                biases=_numbers(values["concepts"], "bias"),
                temperatures=_numbers(values["concepts"], "temperature"),
                tokens=tuple(
                    GatedToken(
                        word=token["word"],
                        concept=token["concept"],
                        similarity=token["similarity"],
                        gate=token["gate"],
                    )
                    for token in values["tokens"]
                ),
            )
        )
    return all_tables


def _numbers(concepts: Sequence[Mapping[str, Any]], option: str) -> dict[str, float]:
    """A number of each concept that has it."""
    return {concept["name"]: concept[option] for concept in concepts if concept[option] is not None}


def _options(
    plan: Outline, built: Mapping[str, str], store: Store, gates: Sequence[GateTable]
) -> Iterator[DrawnOptions]:
    """How the first concepts of each figure are drawn at each of its points, where gates do not tell it."""
    told = {(table.figure, table.point) for table in gates}
    seen: set[tuple[str, str, str]] = set()
    subjects: dict[str, list[tuple[str, ...]]] = {}
    for cell in plan.cells:
        point, known = cell.point, subjects.setdefault(cell.figure, [])
        if cell.subject not in known and len(known) < TABLES:
            known.append(cell.subject)
        if (cell.figure, point.label) in told or cell.subject not in known:
            continue
        if point.variant.method == WORDS or point.variant.drawing is not None:
            continue
        for name in cell.subject:
            key = (cell.figure, point.label, name)
            if key in seen:
                continue
            seen.add(key)
            order = plan.builds[cell.figure, point.variant.name, name]
            card = read_card(store.path(built[order.digest]))
            method = find_method(card.method)
            own = method.own_options(card.train, card.render, {})
            draw = method.set_options(name, own, [point.settings])
            options = {setting.field: value for setting, value in method.shown_settings(draw)}
            if options:
                yield DrawnOptions(
                    figure=cell.figure,
                    point=point.label,
                    concept=name,
                    method=card.method,
                    options=options,
                    summary=method.summary(draw),
                )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _records(
    cell: Cell, order: DrawOrder, score: ScoreOrder, cache: Cache, out: Path
) -> Iterator[ImageRecord]:
    variant = cell.point.variant
    for seed, key in zip(cell.seeds, score.keys, strict=True):
        scores = cast("dict[MetricName, float]", cache.scores(score.key(key)) or {})
        attention = cache.attention(key)
        yield ImageRecord(
            figure=cell.figure,
            variant=variant.name,
            point=cell.point.label,
            method=variant.method,
            bias=cell.point.number("bias"),
            temperature=cell.point.number("temperature"),
            key_lock=_word(cell.point.settings.get("key_lock")),
            settings=dict(cell.point.settings),
            concepts=cell.subject,
            group=cell.group.name,
            shape_preserving=cell.group.shape_preserving,
            prompt=order.prompt,
            template=cell.template,
            seed=seed,
            picture=_placed(cache.picture(key), out, "pictures"),
            attention=_placed(attention, out, "attention")
            if order.attention and attention.is_file()
            else None,
            metrics=scores,
        )


def _placed(path: Path, out: Path, folder: str) -> str:
    """Put a cached file beside the results, as a link where that can be; its path from there."""
    target = out / folder / path.name
    if not target.is_file():
        make_folder(target.parent)
        try:
            os.link(path, target)
        except FileExistsError:
            pass
        except OSError:
            shutil.copyfile(path, target)
    return f"{folder}/{path.name}"


def _concepts(plan: Outline, built: Mapping[str, str], store: Store, out: Path) -> Iterator[ConceptResult]:
    for (figure, variant, name), order in plan.builds.items():
        sha256 = built[order.digest]
        card = load_artifact(store.get(sha256)).card
        images = []
        for digest, data in zip(order.source.image_digests, order.source.images, strict=True):
            target = out / "references" / f"{digest[:16]}.png"
            if not target.is_file():
                make_folder(target.parent)
                replace_bytes(target, data)
            images.append(f"references/{target.name}")
        yield ConceptResult(
            figure=figure,
            variant=variant,
            name=name,
            group=order.source.group,
            supercategory=order.source.supercategory,
            sha256=sha256,
            steps_kept=card.steps_kept or 0,
            images=tuple(images),
        )


def _beside(reference: str, where: Path) -> str:
    """A base's reference with a relative path made absolute, as seen from the suite's file."""
    return BaseReference.parse(reference, where=str(where)).seen_from(where.parent)
