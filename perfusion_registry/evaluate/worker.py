"""What one process computes with: bases, covariance, recogniser, loaded once when first needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact, Store, digest_of, load_artifact
from perfusion_registry.base import describe_base, load_base
from perfusion_registry.base.digest import file_digest
from perfusion_registry.build import Covariance, load_covariance
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.cache import SCORING_EPOCH, Cache
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base, Scorer
    from perfusion_registry.base.likeness import Likeness
    from perfusion_registry.storybook.reading import Asked
    from perfusion_registry.storybook.recogniser import Recogniser


@dataclass(frozen=True)
class Setting:
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

    setting: Setting
    reporter: Reporter = field(default_factory=Silent)
    _bases: dict[str, Base] = field(default_factory=dict)
    _features: dict[str, Tensor] = field(default_factory=dict)
    _looks: dict[str, frozenset[str]] = field(default_factory=dict)

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
    def recogniser(self) -> Recogniser:
        """The recogniser of the drawn world."""
        from perfusion_registry.storybook.recogniser import Recogniser

        return Recogniser.load(recogniser_file(self.setting.base))

    @cached_property
    def recogniser_digest(self) -> str:
        """The SHA-256 of its file."""
        return file_digest(recogniser_file(self.setting.base))

    def artifact(self, sha256: str) -> Artifact:
        """An artifact of the store."""
        return load_artifact(self.store.get(sha256))

    def looks(self, cast: str) -> frozenset[str]:
        """The looks of one of the cast, as the recogniser sees it."""
        from perfusion_registry.evaluate.measures import own_looks
        from perfusion_registry.storybook.cast import CAST

        if cast not in self._looks:
            self._looks[cast] = own_looks(self.recogniser, CAST[cast])
        return self._looks[cast]

    def portraits(self, cast: Sequence[str], number: int, question: Asked) -> Tensor:
        """Features of one of the cast and its look-alikes, in the scene, the relation and the company that a
        prompt asks for; from the cache where it has them.

        cast: who is in the picture. number: whom of them the look-alikes stand in for.
        """
        from perfusion_registry.evaluate.measures import look_alikes, portraits
        from perfusion_registry.storybook.cast import CAST

        shown = [CAST[name] for name in cast]
        style = "watercolor" if question.watercolor else None
        company = [repr(shown), number, question.relation] if len(shown) > 1 else repr(shown[0])
        judges = [self.recogniser_digest, self.base().description.digest, SCORING_EPOCH]
        key = digest_of(["portraits", judges, company, question.scene, style])
        known = self.remembered(key)
        if known is None:
            known = self.cache.features(key)
            if known is None:
                candidates = [
                    (*shown[:number], other, *shown[number + 1 :]) for other in look_alikes(shown[number])
                ]
                relation = question.relation if len(shown) > 1 else None
                known = portraits(
                    self.recogniser,
                    self.base(),
                    shown[number].category,
                    candidates,
                    relation,
                    question.scene,
                    style,
                )
                self.cache.keep_features(key, known)
            self.remembered(key, known)
        return known

    def remembered(self, key: str, features: Tensor | None = None) -> Tensor | None:
        """Features that this process has taken before; given some, remember them."""
        if features is not None:
            self._features[key] = features
        return self._features.get(key)


def recogniser_file(base: str) -> Path:
    """The recogniser's file: the base's own, else Storybook's."""
    for reference in (base, "storybook"):
        path = describe_base(reference).folder / "recogniser.safetensors"
        if path.is_file():
            return path
    raise PerfError("the recogniser of the drawn world is not in this installation", where=str(path))
