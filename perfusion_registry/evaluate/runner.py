"""Running a suite: build, draw and judge what the cache does not hold yet, in as many processes as asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from perfusion_registry.amounts import count
from perfusion_registry.artifact import Store
from perfusion_registry.evaluate.aggregate import figure_result
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.costs import Cost
from perfusion_registry.evaluate.drawing import DrawOrder
from perfusion_registry.evaluate.environment import environment
from perfusion_registry.evaluate.plan import Outline, compared, points
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
    for name, why in plan.skipped.items():
        reporter.warn(f"figure {name} is left out: {why}")
    cache = Cache(place.root)
    with (machines or partial(_processes, place.jobs))(setting, reporter) as run:
        built = _build(plan, Store(place.root), cache, run, reporter)
        orders = [(cell, plan.drawn(cell, built)) for cell in plan.cells]
        _draw([order for _, order in orders], suite.render.batch, cache, run, reporter)
        judged = [(cell, order, plan.scored(cell, order)) for cell, order in orders]
        _judge([score for _, _, score in judged], cache, run, reporter)
        gates = gate_tables(orders, cache, run)
    make_folder(place.out)
    with reporter.stage("Adding up", len(plan.figures)) as stage:
        images = [record for group in judged for record in image_records(*group, cache, place.out)]
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
        concepts=tuple(concept_results(plan, built, Store(place.root), place.out)),
        figures=(*found, *left_out),
        gates=tuple(gates),
        options=tuple(drawn_options(plan, built, Store(place.root), gates)),
        images=tuple(images),
    )
    write_results(results, place.out)
    return results


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
