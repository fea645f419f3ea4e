"""Parts of an evaluation for several machines that talk to nobody, and what they made brought together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.artifact import Store
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.building import BuildOrder
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.plan import Cell, Outline
from perfusion_registry.shards import Shard, share


def part_of(plan: Outline, shard: Shard) -> Outline:
    """The cells of one shard, with what they need built.

    A search and all that is chosen from it fall to one machine, so that none waits for another; else each
    training of each variant, of all concepts, is a piece by itself.
    """
    units = list(dict.fromkeys(_unit(plan, cell) for cell in plan.cells))
    mine = set(share(units, shard))
    return plan.of([cell for cell in plan.cells if _unit(plan, cell) in mine])


def _unit(plan: Outline, cell: Cell) -> tuple[object, ...]:
    variant = cell.point.variant
    if cell.figure in plan.searches:  # its plain words too, beside which it chooses
        return ("search", cell.figure)
    if variant.chosen_from is not None:
        return ("search", variant.chosen_from)
    if not variant.learned_by:
        return ("words",)
    return (repr(variant.training_options), cell.training)


@dataclass(frozen=True)
class Elsewhere:
    """What other machines built, drew and judged: folders of their caches (PERF_CACHE_DIR), as they were
    brought here. What is not here yet is taken from them."""

    roots: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Raise PerfError for a folder that is no cache of an evaluation."""
        for root in self.roots:
            if not (root / "artifacts").is_dir() and not (root / "evaluation").is_dir():
                raise PerfError(
                    "this folder has nothing of an evaluation",
                    where=str(root),
                    hint="name the other machine's cache (its PERF_CACHE_DIR), or a copy of it",
                )

    def built(self, order: BuildOrder, store: Store) -> str | None:
        """The SHA-256 of an order's artifact, where this store has it or another machine's."""
        return next(filter(None, map(order.built, (store, *map(Store, self.roots)))), None)

    def caches(self, root: Path) -> tuple[Cache, ...]:
        """The cache at `root`, and then those of other machines."""
        return tuple(map(Cache, (root, *self.roots)))

    def bring_artifacts(self, orders: Iterable[BuildOrder], store: Store, cache: Cache) -> None:
        """Take the artifacts that orders have made elsewhere, each checked by its hash, and what they cost,
        which is known where they were learned: also of an artifact that is here already."""
        for order in orders:
            for root in self.roots:
                cost = Cache(root).cost(order.training)
                if cost is not None and cache.cost(order.training) is None:
                    cache.keep_cost(order.training, cost)
                other = Store(root)
                sha256 = order.built(other)
                if order.built(store) is not None or sha256 is None:
                    continue
                store.put(other.get(sha256))
                store.record(order.training, sha256)
                store.record(order.digest, sha256)

    def bring_portraits(self, cache: Cache) -> None:
        """Take what look-alikes look like, which no picture is drawn for: minutes a concept where it is to be
        made again."""
        for root in self.roots:
            for file in Cache(root).portraits():
                path = cache.root / file.relative_to(root)
                if not path.exists():
                    cache.keep(path, file.read_bytes())

    def bring(self, files: Sequence[Path], cache: Cache, root: Path) -> None:
        """Take files of the evaluation's cache, by where they would be below its `root`."""
        for path in files:
            for other in self.roots:
                there = other / path.relative_to(root)
                if there.is_file() and not path.exists():
                    cache.keep(path, there.read_bytes())


NOWHERE = Elsewhere()
