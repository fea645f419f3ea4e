"""What tells one base from another, and where a base on this machine lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.licence import base_licence
from perfusion_registry.base.options import BaseFile as BaseFile
from perfusion_registry.base.options import BaseOptions
from perfusion_registry.base.prediction import GUIDANCE_RESCALE, Prediction
from perfusion_registry.recipe.base_section import BaseSection


@dataclass(frozen=True, kw_only=True)
class BaseIdentity:
    """What tells one base from another.

    repo: as in `BaseReference.repo`. revision: 40 hex digits for a hub model, else None. architecture: the
    name of its kind. family: hex sha256; concepts transfer between bases of one family. digest: hex sha256
    over its files. text_digest: hex sha256 over those that decide what a caption is encoded to; text_weights:
    over the numbers of its text encoders rounded to fp16, in whatever files they are. Of a pipeline that is
    not read from files these digests are "unknown". card: its defaults. prediction: of a base in one file,
    what its denoiser predicts, which a folder says in its scheduler. options: what `[base]` of a project
    puts into it, which `digest` and `family` are of too. plain_digest: that of its own files alone. draws:
    what it draws from; see `Base.draws`.
    """

    repo: str
    architecture: str
    family: str
    revision: str | None = None
    digest: str = "unknown"
    text_digest: str = "unknown"
    text_weights: str = "unknown"
    card: BaseCard = field(default_factory=BaseCard)
    prediction: Prediction | None = None
    options: BaseOptions = field(default_factory=BaseOptions)
    plain_digest: str = "unknown"
    draws: tuple[str, ...] = ("text", "image", "inpaint")

    @property
    def guidance_rescale(self) -> float:
        """How far guided predictions are scaled back; 0: not at all. A folder or a live pipeline is drawn as
        its own pipeline draws; of a file there is none, and a schedule without signal at its end wants it.
        """
        return GUIDANCE_RESCALE if self.prediction and self.prediction.zero_terminal_snr else 0.0


@dataclass(frozen=True, kw_only=True)
class BaseDescription(BaseIdentity):
    """A base that is present on this machine.

    folder: where it lies; of a base in one file, that file. files: what it is made of, its own sorted by
    path, then those that `[base]` names.
    variants: the name under which the weights of each model are, such as "fp16"; None for the plain one.
    """

    folder: Path
    files: tuple[BaseFile, ...]
    variants: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def in_one_file(self) -> bool:
        """Whether it is one file."""
        return self.prediction is not None

    @property
    def prediction_asked(self) -> str | None:
        """What was asked of a base in one file, as a lockfile says it; None where nothing was."""
        return self.prediction.as_locked if self.prediction else None

    @property
    def options_asked(self) -> BaseSection | None:
        """What else `[base]` says, as a lockfile has it; None where it says nothing."""
        return self.options.said

    def training_digest(self, prompts: Iterable[str]) -> str:
        """The digest of all of it that a concept depends on. prompts: those that it is learned by."""
        return self.options.training_digest(self.plain_digest, prompts)

    @property
    def without_controls(self) -> BaseDescription:
        """The base as it is without its controls, which draw only what asks for them."""
        options = replace(self.options, controls=())
        return replace(self, options=options, digest=options.drawing_digest(self.plain_digest))

    @property
    def for_training(self) -> BaseDescription:
        """The base that concepts are learned on: without what is there for drawing alone."""
        options = self.options.for_training
        if options == self.options:
            return self
        return replace(self, options=options, digest=options.drawing_digest(self.plain_digest))

    @property
    def clip(self) -> Path | None:
        """The folder of the CLIP model that scores pictures, or None."""
        if self.options.scorer is not None:
            return self.options.scorer.place
        folder = self.folder / self.card.clip
        return folder if folder.is_dir() else None

    @property
    def covariance(self) -> Path | None:
        """The covariance file that ships with the base, or None."""
        path = self.folder / self.card.covariance
        return path if path.is_file() else None

    @property
    def licence(self) -> str | None:
        """What the model card beside the weights says; None where nothing is said."""
        return base_licence(self.folder)
