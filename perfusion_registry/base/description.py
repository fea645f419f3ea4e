"""A base on disk, described without loading it: its files, their digests, its family and its card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from perfusion_registry.base.architecture import Architecture
from perfusion_registry.base.architectures import architecture, recognise
from perfusion_registry.base.card import CARD_FILE, BaseCard
from perfusion_registry.base.digest import file_digest
from perfusion_registry.base.files import INDEX, BaseFiles
from perfusion_registry.base.hub import NotDownloadedError, snapshot
from perfusion_registry.base.identity import BaseDescription, BaseFile
from perfusion_registry.base.kinds import no_base
from perfusion_registry.base.reference import BaseReference
from perfusion_registry.base.weights import weight_files
from perfusion_registry.cache_folder import expand_user
from perfusion_registry.errors import PerfError


def describe_base(
    reference: BaseReference | str, *, root: Path | None = None, allow_download: bool | None = None
) -> BaseDescription:
    """Find a base on this machine and describe it, without importing torch.

    root: what a relative folder is relative to; the working directory by default.
    allow_download: whether a hub model that is not here may be downloaded; None asks PERF_ALLOW_DOWNLOAD.
    Raises PerfError when the base is not here, incomplete, or of no architecture that can carry concepts.
    """
    reference = BaseReference.parse(reference) if isinstance(reference, str) else reference
    folder = _find(reference, root, allow_download)
    return _describe(reference.repo, folder.name if reference.kind == "hub" else None, folder)


def check_base(name: str, *, root: Path | None = None) -> bool:
    """Whether a base is on this machine, and one that concepts can be trained on, read as `describe_base`
    reads it but without hashing its files.

    False for a model of the hub that is not here, of which nothing can be told. Raises PerfError for anything
    else that is no such base.
    """
    try:
        folder = _find(BaseReference.parse(name), root, allow_download=False)
    except NotDownloadedError:
        return False
    kind, files = _recognised(folder)
    kind.family(files)
    kind.require_trainable(files, BaseCard.read(folder))
    return True


def _find(reference: BaseReference, root: Path | None, allow_download: bool | None) -> Path:
    """The folder of a base; of a hub model its name is the commit."""
    if reference.kind == "embedded":
        folder = Path(str(resources.files("perfusion_registry"))) / "storybook" / "weights"
        if not (folder / INDEX).is_file():
            raise PerfError(
                "the embedded base is not in this installation",
                where=str(folder),
                hint="reinstall perfusion-registry, or name another base in perfusion.toml",
            )
    elif reference.kind == "hub":
        folder = snapshot(reference, allow_download=allow_download, models=_models)
    else:
        folder = ((root or Path.cwd()) / expand_user(reference.repo)).resolve()
        if folder.is_file():
            raise no_base(folder)
        if not folder.is_dir():
            raise PerfError(
                "the base's folder does not exist",
                where=str(folder),
                hint='name the folder of a diffusers model, a model of the hub as owner/name, or "storybook"',
            )
    return folder


def require_trainable(description: BaseDescription) -> None:
    """Raise PerfError for a base that can draw concepts and on which none can be trained."""
    files = BaseFiles(description.folder, description.variant)
    architecture(description.architecture).require_trainable(files, description.card)


def _describe(repo: str, revision: str | None, folder: Path) -> BaseDescription:
    kind, files = _recognised(folder)
    weights = [path for model in kind.models for path in files.weights(model)]
    family = kind.family(files)
    card = BaseCard.read(folder)
    described = tuple(
        BaseFile(path.relative_to(folder).as_posix(), file_digest(path), path.stat().st_size)
        for path in sorted(
            _files(folder, card, kind, weights), key=lambda path: path.relative_to(folder).as_posix()
        )
    )
    return BaseDescription(
        repo=repo,
        revision=revision,
        folder=folder,
        files=described,
        digest=_digest(described),
        family=family,
        card=card,
        variant=files.variant,
        architecture=kind.name,
        text_digest=_digest(file for file in described if file.path.startswith(_folders(kind.text))),
    )


def _recognised(folder: Path) -> tuple[Architecture, BaseFiles]:
    """What kind of base this is, and its files; damaged ones are told before gigabytes are hashed."""
    files = BaseFiles(folder)
    kind = recognise(files)
    files = BaseFiles(folder, files.complete_variant(kind.models))
    for model in kind.models:
        files.tensors(model)
    return kind, files


def _digest(files: Iterable[BaseFile]) -> str:
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _folders(components: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{component}/" for component in components)


def _models(folder: Path) -> tuple[str, ...]:
    return recognise(BaseFiles(folder)).models


def _files(folder: Path, card: BaseCard, kind: Architecture, weights: Iterable[Path]) -> set[Path]:
    """Every file that changes what the base draws or how its pictures are scored; never the covariance."""
    found = {folder / INDEX, folder / CARD_FILE, *weights}
    for model in kind.models:
        found.add(folder / model / "config.json")
    for plain in {"scheduler", *kind.text} - {*kind.models}:
        found.update(path for path in (folder / plain).glob("*") if path.suffix in (".json", ".txt"))
    clip = folder / card.clip
    found.update(weight_files(clip))
    found.update(path for path in clip.glob("*") if path.suffix in (".json", ".txt"))
    return {path for path in found if path.is_file()}
