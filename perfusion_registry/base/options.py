"""What `[base]` of a project comes to: the files that it names, found and hashed, and what changes with them.

Importing this needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from perfusion_registry.base.control_kinds import CONTROL_KINDS, ControlKind
from perfusion_registry.recipe.base_section import BaseSection
from perfusion_registry.recipe.lockfile import Part


@dataclass(frozen=True)
class BaseFile:
    """One file that a base is made of.

    path: within the base's folder, with `/`. sha256: hex. size: bytes. part: what it is to the base, where
    `[base]` names it: then path is what is written there, and what follows within that folder.
    """

    path: str
    sha256: str
    size: int
    part: Part | None = None


@dataclass(frozen=True)
class SaidOfBase:
    """`[base]` of a project. root: what its paths are relative to. where: the file that it is written in."""

    section: BaseSection
    root: Path
    where: str

    def at(self, key: str) -> str:
        """The place of a key, for errors."""
        return f"{self.where}, base.{key}"


@dataclass(frozen=True)
class SidePart:
    """A model or a file that goes with a base. said: as it is written. place: where it is. files: its own."""

    said: str
    place: Path
    files: tuple[BaseFile, ...]

    @cached_property
    def digest(self) -> str:
        """The hex sha256 over its bytes, whatever it is called."""
        lines = (f"{file.sha256}  {file.path.removeprefix(self.said.rstrip('/'))}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def told(self) -> str:
        """In words: as it is written, its size, and the beginning of its digest."""
        size = sum(file.size for file in self.files)
        shown = f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"
        return f"{self.said}, {shown}, {self.digest[:12]}"


@dataclass(frozen=True)
class FusedLora:
    """A LoRA, and how much of it. train: whether concepts are learned with it. in_text: whether it changes
    text encoders."""

    part: SidePart
    strength: float = 1.0
    train: bool = True
    in_text: bool = False


@dataclass(frozen=True)
class WordEmbedding:
    """A textual inversion: the word that stands for it in prompts, and how many vectors it is."""

    part: SidePart
    word: str
    vectors: int


@dataclass(frozen=True)
class ControlPart:
    """A network that a picture controls. name: what `--control NAME=IMAGE` calls it. mode: of a network for
    several kinds of pictures, the number of this kind. grey: whether the picture is read in greys.
    multiple: of which the sides of what is drawn have to be, in pixels. encoder: of an IP-Adapter, the model
    that reads the picture."""

    name: str
    part: SidePart
    kind: ControlKind
    mode: int | None = None
    grey: bool = False
    multiple: int = 1
    encoder: SidePart | None = None

    @property
    def parts(self) -> tuple[SidePart, ...]:
        """All that has files."""
        return (self.part,) if self.encoder is None else (self.part, self.encoder)

    @property
    def digest(self) -> str:
        """That of its bytes."""
        return " ".join(part.digest for part in self.parts)


@dataclass(frozen=True)
class BaseOptions:
    """What is put into a base, or in the place of its parts; all that is not said is as the base has it.

    left_out: how many layers are left out of the end of each text encoder (clip skip), by component. said:
    `[base]` as it is written, without what a base in one file predicts; None where it says nothing.
    """

    left_out: Mapping[str, int] = field(default_factory=dict)
    vae: SidePart | None = None
    unet: SidePart | None = None
    scorer: SidePart | None = None
    segmenter: SidePart | None = None
    loras: tuple[FusedLora, ...] = ()
    embeddings: tuple[WordEmbedding, ...] = ()
    controls: tuple[ControlPart, ...] = ()
    said: BaseSection | None = None

    @property
    def changes_text(self) -> bool:
        """Whether it may change what text encoders are: layers left out, words, LoRAs."""
        return bool(self.left_out or self.text_marks or self.embeddings or self.loras)

    @property
    def parts(self) -> tuple[SidePart, ...]:
        """Everything that has files."""
        models = (self.vae, self.unet, self.scorer, self.segmenter)
        named: list[FusedLora | WordEmbedding] = [*self.loras, *self.embeddings]
        others = [*(one.part for one in named), *(part for one in self.controls for part in one.parts)]
        return (*(part for part in models if part is not None), *others)

    @property
    def files(self) -> tuple[BaseFile, ...]:
        """Of all parts, each once."""
        return tuple(dict.fromkeys(file for part in self.parts for file in part.files))

    @property
    def sentences(self) -> list[str]:
        """What it all is, a sentence each, with the beginnings of digests."""
        if self.said is None:
            return []
        told = []
        if self.said.clip_skip is not None:
            told.append(f"clip_skip: {self.said.clip_skip}")
        for name in ("vae", "unet", "scorer", "segmenter"):
            part = getattr(self, name)
            if part is not None:
                told.append(f"{name}: {part.told}")
        for lora in self.loras:
            alone = "" if lora.train else ", for drawing alone"
            told.append(f"lora: {lora.part.told}, strength {lora.strength:g}{alone}")
        told += [
            f"embeddings: `{one.word}`, {one.vectors} vectors, {one.part.told}" for one in self.embeddings
        ]
        told += [
            f"controls: `{one.name}`, {CONTROL_KINDS[one.kind].called}, {one.part.told}"
            for one in self.controls
        ]
        if self.said.defaults:
            told.append(
                "defaults: " + ", ".join(f"{key} {value}" for key, value in self.said.defaults.items())
            )
        return told

    @property
    def for_training(self) -> BaseOptions:
        """Without what concepts are learned without."""
        return replace(self, loras=tuple(lora for lora in self.loras if lora.train), controls=())

    @property
    def text_marks(self) -> tuple[str, ...]:
        """A digest of each thing that changes the numbers of text encoders; none for one that only leaves
        layers out."""
        return tuple(
            hashlib.sha256(f"lora {lora.part.digest} {lora.strength}".encode()).hexdigest()
            for lora in self.loras
            if lora.in_text and lora.strength
        )

    def text_digest(self, plain: str) -> str:
        """The digest of what decides what a caption is encoded to. plain: that of the base as it is."""
        changes = (
            [*self.text_marks, json.dumps(dict(self.left_out), sort_keys=True)]
            if self.left_out
            else list(self.text_marks)
        )
        return self._digest(plain, {"text": changes} if changes else {})

    def drawing_digest(self, plain: str) -> str:
        """The digest of the base with it: of all that changes what is drawn. plain: that of the base as it
        is, which this is where nothing does."""
        controls = {one.name: one.digest for one in self.controls}
        drawn = {"controls": controls} if controls else {}
        return self._digest(plain, {**self._weights(self.loras), **self._words(self.embeddings), **drawn})

    def training_digest(self, plain: str, prompts: Iterable[str]) -> str:
        """The same of all that changes what is learned: with what judges and masks pictures, and without
        what is there for drawing alone. prompts: of the training, which may hold words of `embeddings`."""
        text = " ".join(prompts).lower()
        models = {
            name: part.digest
            for name, part in (("scorer", self.scorer), ("segmenter", self.segmenter))
            if part is not None
        }
        used = [one for one in self.embeddings if one.word in text]
        return self._digest(plain, {**self._weights(self.for_training.loras), **models, **self._words(used)})

    def _weights(self, loras: Iterable[FusedLora]) -> dict[str, object]:
        said: dict[str, object] = {"left_out": dict(self.left_out)} if self.left_out else {}
        if (autoencoder := self.vae) is not None:
            said["vae"] = autoencoder.digest
        if (denoiser := self.unet) is not None:
            said["unet"] = denoiser.digest
        fused = [[lora.part.digest, lora.strength] for lora in loras if lora.strength]
        return {**said, "loras": fused} if fused else said

    @staticmethod
    def _words(embeddings: Iterable[WordEmbedding]) -> dict[str, object]:
        words = {one.word: one.part.digest for one in embeddings}
        return {"embeddings": words} if words else {}

    @staticmethod
    def _digest(plain: str, said: Mapping[str, object]) -> str:
        if not said:
            return plain
        return hashlib.sha256(json.dumps([plain, said], sort_keys=True).encode()).hexdigest()
