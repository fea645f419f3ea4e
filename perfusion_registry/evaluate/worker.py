"""What one process computes with: bases, covariance, judges, loaded once when first needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact, Store, load_artifact
from perfusion_registry.base import describe_base, load_base
from perfusion_registry.build import Covariance, load_covariance
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.metrics import world
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base, Scorer
    from perfusion_registry.base.likeness import Likeness
    from perfusion_registry.worlds import WorldJudge


@dataclass(frozen=True)
class WorkerSetup:
    """Where and with what to compute. base: as a manifest names it.

    dino: a folder with a DINO model, or None.
    """

    root: Path
    base: str
    covariance: Path
    device: str = "auto"
    dtype: str = "auto"
    dino: Path | None = None


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

    def base(self, reference: str | None = None) -> Base:
        """A loaded base; None is the suite's own."""
        named = reference or self.setting.base
        if named not in self._bases:
            self._bases[named] = load_base(
                describe_base(named), device=self.setting.device, dtype=self.setting.dtype
            )
        return self._bases[named]

    @property
    def scorer(self) -> Scorer:
        """The CLIP model of the suite's base, which judges every variant's pictures."""
        scorer = self.base().scorer
        if scorer is None:
            raise PerfError(
                "the base has no CLIP model to measure similarity with",
                where=self.setting.base,
                hint="put one into its folder `clip`",
            )
        return scorer

    @cached_property
    def dino(self) -> Likeness:
        """The DINO model."""
        from perfusion_registry.base.likeness import Likeness

        assert self.setting.dino is not None
        return Likeness.load(self.setting.dino, self.base().device)

    @cached_property
    def judge(self) -> WorldJudge:
        """What tells the drawn world's metrics."""
        return world().judge(self.setting.base)

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
