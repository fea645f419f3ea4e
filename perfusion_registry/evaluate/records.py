"""What a run of a suite came to, as its results have it: pictures, gates, options, concepts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from perfusion_registry.artifact import Store, load_artifact, read_card
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.drawing import DrawOrder
from perfusion_registry.evaluate.gating import GateOrder
from perfusion_registry.evaluate.metrics import MetricName
from perfusion_registry.evaluate.plan import Cell, Outline
from perfusion_registry.evaluate.results import (
    ConceptResult,
    DrawnOptions,
    GatedToken,
    GateTable,
    ImageRecord,
)
from perfusion_registry.evaluate.scoring import ScoreOrder
from perfusion_registry.evaluate.suite import WORDS
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe.writing import make_folder, replace_bytes
from perfusion_registry.workers import Run

TABLES = 2
"""Of how many subjects a figure keeps the gates."""


def gate_tables(orders: Sequence[tuple[Cell, DrawOrder]], cache: Cache, run: Run) -> list[GateTable]:
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


def drawn_options(
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
            order = plan.builds[cell.figure, point.variant.name, name, cell.training]
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


def image_records(
    cell: Cell, order: DrawOrder, score: ScoreOrder, cache: Cache, out: Path | None
) -> Iterator[ImageRecord]:
    """The pictures of a cell with their scores, put beside the results; where `out` is None, left in the
    cache."""
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
            training=cell.training,
            picture=_placed(cache.picture(key), out, "pictures"),
            attention=_placed(attention, out, "attention")
            if order.attention and attention.is_file()
            else None,
            metrics=scores,
        )


def _placed(path: Path, out: Path | None, folder: str) -> str:
    """Put a cached file beside the results, as a link where that can be; its path from there."""
    target = None if out is None else out / folder / path.name
    if target is not None and not target.is_file():
        make_folder(target.parent)
        try:
            os.link(path, target)
        except FileExistsError:
            pass
        except OSError:
            shutil.copyfile(path, target)
    return f"{folder}/{path.name}"


def concept_results(
    plan: Outline, built: Mapping[str, str], store: Store, out: Path
) -> Iterator[ConceptResult]:
    """The concepts that were built, with what they were learned from put beside the results."""
    cache = Cache(store.root)
    for (figure, variant, name, training), order in plan.builds.items():
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
            training=training,
            bytes=store.path(sha256).stat().st_size,
            cost=cache.cost(order.training),
            steps_kept=card.steps_kept or 0,
            images=tuple(images),
        )
