"""Gate orders: how similar each token of a prompt is to its concepts, for the tables of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perfusion_registry.artifact import digest_of
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.drawing import DrawOrder
from perfusion_registry.evaluate.worker import Worker


@dataclass(frozen=True)
class GateOrder:
    """The gates of one prompt. drawn: the order that draws it."""

    drawn: DrawOrder

    @property
    def key(self) -> str:
        """The digest of everything that changes its similarities and gates."""
        return digest_of(["gates", self.drawn.key(0)])

    @property
    def title(self) -> str:
        """What to call it."""
        return self.drawn.prompt

    def kept(self, cache: Cache) -> dict[str, Any] | None:
        """What the cache knows of it."""
        return cache.scores(self.key)

    def run(self, worker: Worker) -> None:
        """Measure the gates into the cache."""
        from perfusion_registry.compose import explain

        if self.kept(worker.cache) is not None:
            return
        base = worker.base(self.drawn.base)
        artifacts = {concept.name: worker.artifact(concept.sha256) for concept in self.drawn.concepts}
        explained = explain(base, self.drawn.composition(base, artifacts), artifacts)
        worker.cache.keep_scores(self.key, explained.model_dump(mode="json"))
