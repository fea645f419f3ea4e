"""What one process computes with: bases, covariance, judges, loaded once when first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact, Store, load_artifact
from perfusion_registry.base import BaseDescription, load_base
from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.build import Covariance, load_covariance
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.metrics import world, world_of
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base, Scorer
    from perfusion_registry.base.likeness import Likeness
    from perfusion_registry.worlds import World, WorldJudge


@dataclass(frozen=True)
class WorkerSetup:
    """Where and with what to compute. base: as a manifest names it.

    dino: a folder with a DINO model, or None. bases: that base and the others, described, by reference. clip:
    a folder with the CLIP model that judges; None for the base's own.
    """

    root: Path
    base: str
    covariance: Path
    device: str = "auto"
    dtype: str = "auto"
    offload: Offload | None = None
    dino: Path | None = None
    bases: Mapping[str, BaseDescription] = field(default_factory=dict)
    clip: Path | None = None


@dataclass
class Worker:
    """The loaded things of one process."""

    setting: WorkerSetup
    reporter: Reporter = field(default_factory=Silent)
    _bases: dict[str, Base] = field(default_factory=dict)
    _features: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def store(self) -> Store:
        """The artifacts."""
        return Store(self.setting.root)

    @cached_property
    def cache(self) -> Cache:
        """The pictures and scores."""
        return Cache(self.setting.root)

    @cached_property
    def covariance(self) -> Covariance:
        """C, of the suite's base."""
        return load_covariance(self.setting.covariance)

    def base(self, reference: str | None = None, *, training: bool = False) -> Base:
        """A loaded base; None is the suite's own. training: without what is there for drawing alone."""
        described = self.setting.bases[reference or self.setting.base]
        if training:
            described = described.for_training
        if described.digest not in self._bases:
            self._bases[described.digest] = load_base(
                described, self.setting.device, self.setting.dtype, offload=self.setting.offload
            )
        return self._bases[described.digest]

    @cached_property
    def scorer(self) -> Scorer:
        """The CLIP model that judges every variant's pictures: the suite's, else that of its base."""
        if self.setting.clip is not None:
            from perfusion_registry.base import Scorer

            return Scorer.load(self.setting.clip, self.base().device)
        scorer = self.base().scorer
        if scorer is None:
            raise without_clip(self.setting.base)
        return scorer

    @cached_property
    def dino(self) -> Likeness:
        """The DINO model."""
        from perfusion_registry.base.likeness import Likeness

        assert self.setting.dino is not None
        return Likeness.load(self.setting.dino, self.base().device)

    @cached_property
    def world(self) -> World:
        """The drawn world of the suite's base."""
        return world(world_of(self.setting.bases[self.setting.base]))

    @cached_property
    def judge(self) -> WorldJudge:
        """What tells the drawn world's metrics."""
        return self.world.judge(str(self.setting.bases[self.setting.base].folder))

    def artifact(self, sha256: str) -> Artifact:
        """An artifact of the store."""
        return load_artifact(self.store.get(sha256))

    def recalled(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """Features that this process or the cache has by that key; else they are made, and kept by both."""
        known = self.remembered(key)
        if known is None:
            known = self.cache.features(key)
            if known is None:
                known = make()
                self.cache.keep_features(key, known)
            self.remembered(key, known)
        return known

    def remembered(self, key: str, features: Tensor | None = None) -> Tensor | None:
        """Features that this process has taken before; given some, remember them."""
        if features is not None:
            self._features[key] = features
        return self._features.get(key)


def without_clip(base: str) -> PerfError:
    """The error for a base that brings no CLIP model, by its reference."""
    return PerfError(
        "the suite's base comes without a CLIP model to judge pictures with",
        where=base,
        hint="name the folder of one as `clip` in the suite, or a `scorer` under [base] in perfusion.toml",
    )
