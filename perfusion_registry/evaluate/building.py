"""Build orders: a concept under one variant's options, trained through the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfusion_registry.artifact import Artifact, Store, build_key, digest_of, save_artifact, training_key
from perfusion_registry.artifact.durations import Durations
from perfusion_registry.build import TRAINER_EPOCH
from perfusion_registry.evaluate.costs import Meter
from perfusion_registry.evaluate.sources import Source
from perfusion_registry.methods.table import find_method, resolve_render, resolve_train, with_given_masks
from perfusion_registry.recipe.mask_files import reads_mask_files
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import TrainingOptions

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription
    from perfusion_registry.evaluate.worker import Worker


@dataclass(frozen=True)
class BuildOrder:
    """One concept to build.

    way: of training, one of its method's `trainings`; None for the method's own. digest: of everything that
    its artifact says; training: of what its tensors depend on; kind: of what decides how long a step takes.
    """

    source: Source
    train: FileModel
    render: FileModel
    way: str | None
    digest: str
    training: str
    kind: str

    @classmethod
    def of(
        cls,
        source: Source,
        way: str | None,
        base: BaseDescription,
        covariance: str,
        steps: int | None,
        training: int = 0,
    ) -> BuildOrder:
        """The order of a source for a base. covariance: of C's file. steps: of training, at most, or None.
        training: which of several that differ in their seed alone, from 0 on."""
        train = resolve_train(source.recipe, base.card.train)
        if isinstance(train, TrainingOptions) and training:
            train = train.model_copy(update={"seed": (train.seed + training) % 2**32})
        if isinstance(train, TrainingOptions) and steps is not None and steps < train.steps:
            every = min(train.validate_every, steps)
            train = train.model_copy(update={"steps": steps, "validate_every": every})
        render = resolve_render(source.recipe, base.card.render)
        needed = covariance if find_method(source.recipe.concept.method).needs_covariance else None
        masks: list[str] = []
        prompts: tuple[str, ...] = ()
        if isinstance(train, TrainingOptions):
            train = with_given_masks(train, source.recipe, [mask is not None for mask in source.masks])
            masks, prompts = list(_masks(source)) if reads_mask_files(train.mask) else [], train.prompts
        inputs = (source.recipe, source.digests, masks, base.training_digest(prompts), needed, train)
        digest = build_key(*inputs, render, epoch=TRAINER_EPOCH)
        learned = training_key(*inputs, render, epoch=TRAINER_EPOCH)
        if way is not None:
            digest, learned = digest_of([way, digest]), digest_of([way, learned])
        batch = train.batch if isinstance(train, TrainingOptions) else 0
        kind = digest_of(["evaluated", base.digest, source.recipe.concept.method, batch])
        return cls(source, train, render, way, digest, learned, kind)

    @property
    def steps(self) -> int:
        """Of its training."""
        return self.train.steps if isinstance(self.train, TrainingOptions) else 0

    @property
    def title(self) -> str:
        """What to call it while it is built."""
        return self.source.name

    def built(self, store: Store) -> str | None:
        """The SHA-256 of the artifact, where the store has it."""
        return store.lookup(self.digest)

    def run(self, worker: Worker) -> tuple[str, str, dict[str, Any] | None]:
        """Build it into the store; the order's digest, the artifact's SHA-256, and what its training cost
        (`Cost`), where that is known."""
        sha256 = self._built(worker)
        cost = worker.cache.cost(self.training)
        return self.digest, sha256, None if cost is None else cost.model_dump()

    def _built(self, worker: Worker) -> str:
        store = worker.store
        with store.building(self.training, self.source.name):
            done = self.built(store)
            if done is not None:
                return done
            known = store.lookup(self.training)
            artifact = worker.artifact(known) if known is not None else self._made(worker)
            update = {"name": self.source.name, "recipe_digest": self.digest, "render": self.render}
            artifact = Artifact(artifact.card.model_copy(update=update), artifact.tensors)
            sha256 = store.put(save_artifact(artifact))
            store.record(self.digest, sha256)
            store.record(self.training, sha256)
            store.discard_workspace(self.training)
        return sha256

    def _made(self, worker: Worker) -> Artifact:
        if isinstance(self.train, TrainingOptions):
            return self._train(worker, self.train)
        from perfusion_registry.base import BaseDescription
        from perfusion_registry.build.importing import import_concept

        path, recipe = self.source.path, self.source.recipe
        assert path is not None
        base = worker.base().description
        assert isinstance(base, BaseDescription)
        return import_concept(
            recipe, path.parent, base, self.train, self.render, digest=self.digest, where=str(path)
        )

    def _train(self, worker: Worker, train: TrainingOptions) -> Artifact:
        from perfusion_registry.build import ConceptSources, build_concept

        concept = self.source.recipe.concept
        sources = ConceptSources(
            concept.name,
            concept.version,
            self.source.supercategory,
            self.source.images,
            self.source.masks,
            concept.method,
        )
        base, method = worker.base(training=True), find_method(concept.method)
        covariance = worker.covariance if method.needs_covariance else None
        meter = Meter(base.device, train.steps)
        with meter.running():
            artifact = build_concept(
                base,
                covariance,
                sources,
                train,
                self.render,
                digest=self.digest,
                make=meter.counted(method.training(self.way) if self.way else method.trainable),
                workspace=worker.store.workspace(self.training),
                timed=meter.timed,
                reporter=worker.reporter,
            )
        if meter.cost is not None:  # kept before the artifact, which says that all is done
            worker.cache.keep_cost(self.training, meter.cost)
            Durations(worker.store.root).keep(self.kind, meter.time)
        return artifact


def _masks(source: Source) -> tuple[str, ...]:
    import hashlib

    return tuple(hashlib.sha256(mask).hexdigest() if mask is not None else "" for mask in source.masks)
