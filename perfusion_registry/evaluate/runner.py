"""Running a suite: build, draw and judge what the cache does not hold yet, in as many processes as asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path

from perfusion_registry.amounts import count
from perfusion_registry.artifact import Store
from perfusion_registry.evaluate import comparison
from perfusion_registry.evaluate.aggregate import figure_result
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.choosing import choices
from perfusion_registry.evaluate.costs import Cost
from perfusion_registry.evaluate.drawing import DrawOrder
from perfusion_registry.evaluate.environment import environment
from perfusion_registry.evaluate.parts import NOWHERE, Elsewhere, part_of
from perfusion_registry.evaluate.plan import Cell, Outline, Point
from perfusion_registry.evaluate.preparing import Workplace, prepared
from perfusion_registry.evaluate.records import concept_results, drawn_options, gate_tables, image_records
from perfusion_registry.evaluate.results import (
    FigureResult,
    Results,
    write_results,
)
from perfusion_registry.evaluate.scoring import ScoreOrder
from perfusion_registry.evaluate.suite import Suite
from perfusion_registry.evaluate.worker import Worker, WorkerSetup
from perfusion_registry.recipe.writing import make_folder
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.shards import WHOLE, Shard
from perfusion_registry.workers import Run, worker_pool

Machines = Callable[[WorkerSetup, Reporter], AbstractContextManager[Run]]
"""Gives what runs orders, from what they compute with."""


def evaluate(
    suite: Suite,
    where: Path,
    place: Workplace,
    *,
    figures: Sequence[str] = (),
    budget: Budget | None = None,
    reporter: Reporter | None = None,
    machines: Machines | None = None,
) -> Results:
    """Run a suite and write `results.json`, with its pictures beside it, into `place.out`.

    where: the suite's file. figures: ids, default all. machines: what does the orders, if not processes of
    this machine. What is in the store or the cache is not done again, so a run that was killed goes on where
    it was. Raises PerfError for anything that cannot be read, built or drawn.
    """
    reporter = reporter or Silent()
    plan, setting = prepared(suite, where, place, figures=figures, budget=budget)
    _warn_of_left_out(plan, reporter)
    cache = Cache(place.root)
    with (machines or partial(_processes, place.jobs))(setting, reporter) as run:
        done = _searched_and_done(suite, plan, place, run, reporter)
        plan = done.plan
        gates = gate_tables([(cell, order) for cell, order, _ in done.judged], cache, run)
    make_folder(place.out)
    with reporter.stage("Adding up", len(plan.figures)) as stage:
        images = [record for group in done.judged for record in image_records(*group, cache, place.out)]
        found = []
        for figure in plan.figures:
            mine = [record for record in images if record.figure == figure.id]
            result = figure_result(figure, plan.points(figure.id), mine, suite.bootstrap)
            choice = plan.choices.get(figure.id)
            found.append(result.model_copy(update={"chosen": None if choice is None else choice.label}))
            stage.advance(note=f"figure {figure.id}")
    left_out = [
        FigureResult(
            id=name, title=suite.figure(name).title, about="", kind=suite.figure(name).kind, left_out=why
        )
        for name, why in plan.skipped.items()
    ]
    built = done.built
    concepts = tuple(concept_results(plan, built, Store(place.root), place.out))
    results = Results(
        suite=suite,
        budget=plan.budget,
        bootstrap=suite.bootstrap,
        environment=environment(plan, setting),
        concepts=concepts,
        figures=(*found, *left_out),
        comparison=comparison.compared(suite, found, concepts, plan.computing[0]),
        gates=tuple(gates),
        options=tuple(drawn_options(plan, built, Store(place.root), gates)),
        images=tuple(images),
    )
    write_results(results, place.out)
    return results


def evaluate_part(
    suite: Suite,
    where: Path,
    place: Workplace,
    shard: Shard,
    *,
    figures: Sequence[str] = (),
    budget: Budget | None = None,
    reporter: Reporter | None = None,
    machines: Machines | None = None,
) -> Done:
    """Build, draw and judge what falls to one of several machines, into `place.root`; no results are written.

    Raises PerfError as `evaluate` does.
    """
    reporter = reporter or Silent()
    plan, setting = prepared(suite, where, place, figures=figures, budget=budget)
    _warn_of_left_out(plan, reporter)
    with (machines or partial(_processes, place.jobs))(setting, reporter) as run:
        return _searched_and_done(suite, plan, place, run, reporter, shard)


def _warn_of_left_out(plan: Outline, reporter: Reporter) -> None:
    for name, why in plan.skipped.items():
        reporter.warn(f"figure {name} is left out: {why}")


@dataclass(frozen=True)
class Done:
    """What was done of a plan. built: the artifact's SHA-256 for the digest of each build order. judged: its
    cells, with what was drawn and how it was judged."""

    plan: Outline
    built: Mapping[str, str]
    judged: Sequence[tuple[Cell, DrawOrder, ScoreOrder]]


def _searched_and_done(
    suite: Suite, plan: Outline, place: Workplace, run: Run, reporter: Reporter, shard: Shard = WHOLE
) -> Done:
    """Do what a plan's searches need, then what they are for."""
    mine = part_of(plan, shard)
    if mine.searches:
        tried = _done(mine.only(mine.searches), place, run, reporter)
        plan = plan.choosing(suite, chosen(suite, tried, repeat(Cache(place.root))))
    return _done(part_of(plan, shard), place, run, reporter)


def _done(plan: Outline, place: Workplace, run: Run, reporter: Reporter) -> Done:
    """Build, draw and judge what is not there yet."""
    root, elsewhere = place.root, place.elsewhere
    cache, store = Cache(root), Store(root)
    elsewhere.bring_artifacts(plan.orders, store, cache)
    elsewhere.bring_portraits(cache)
    built = _build(plan, store, cache, run, reporter)
    orders = [(cell, plan.drawn(cell, built)) for cell in plan.cells]
    for _, order in orders:
        maps = [cache.attention(key) for key in order.keys().values() if order.keeps_attention]
        elsewhere.bring([*maps, *map(cache.picture, order.keys().values())], cache, root)
    _draw([order for _, order in orders], plan.suite.render.batch, cache, run, reporter)
    judged = [(cell, order, plan.scored(cell, order)) for cell, order in orders]
    for _, _, score in judged:
        elsewhere.bring([cache.score_file(score.key(key)) for key in score.keys], cache, root)
    _judge([score for _, _, score in judged], cache, run, reporter)
    return Done(plan, built, judged)


def searched(suite: Suite, plan: Outline, root: Path, elsewhere: Elsewhere = NOWHERE) -> Outline:
    """The plan with what its searches came to, where all that they draw is drawn and judged, here or
    elsewhere; else the plan."""
    store, caches = Store(root), elsewhere.caches(root)
    tries = plan.only(plan.searches)
    found = {order.digest: elsewhere.built(order, store) for order in tries.orders}
    built = {digest: sha256 for digest, sha256 in found.items() if sha256 is not None}
    if not plan.searches or len(built) < len(found):
        return plan
    orders = [(cell, tries.drawn(cell, built)) for cell in tries.cells]
    judged = [(cell, order, tries.scored(cell, order)) for cell, order in orders]
    holding = [
        next((c for c in caches if not order.missing(c) and not score.missing(c)), None)
        for _, order, score in judged
    ]
    known = [cache for cache in holding if cache is not None]
    if len(known) < len(judged):
        return plan
    return plan.choosing(suite, chosen(suite, Done(tries, built, judged), known))


def chosen(suite: Suite, tried: Done, caches: Iterable[Cache]) -> dict[str, Point]:
    """What came of the searches of a plan that was done. caches: which has the pictures of each of its
    cells; there may be more."""
    records = [
        record
        for group, cache in zip(tried.judged, caches, strict=False)
        for record in image_records(*group, cache, None)
    ]
    by_figure = {figure.id: tried.plan.points(figure.id) for figure in tried.plan.figures}
    found = [
        figure_result(
            figure, by_figure[figure.id], [r for r in records if r.figure == figure.id], suite.bootstrap
        )
        for figure in tried.plan.figures
    ]
    return choices(suite, found, by_figure)


def _processes(jobs: int, setting: WorkerSetup, reporter: Reporter) -> AbstractContextManager[Run]:
    """This process, or several of this machine."""
    preload = ["perfusion_registry.base.preloaded"]
    return worker_pool(partial(Worker, setting), jobs, reporter, preload=preload)


def _build(plan: Outline, store: Store, cache: Cache, run: Run, reporter: Reporter) -> dict[str, str]:
    """The SHA-256 of the artifact for each build order's digest."""
    built = {order.digest: artifact for order in plan.orders if (artifact := order.built(store))}
    # Two orders of one training make two cards of the same tensors; the second finds them in the store.
    todo = [order for order in plan.orders if order.digest not in built]
    if todo:
        with reporter.stage(f"Building {count(len(todo), 'concept')}", len(todo)) as stage:
            for done, (digest, sha256, cost) in run(todo):
                built[digest] = sha256
                if cost is not None:  # of another machine, which has a cache of its own
                    cache.keep_cost(done.training, Cost.model_validate(cost))
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
