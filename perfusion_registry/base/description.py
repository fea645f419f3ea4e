"""A base on disk, described without loading it: its files, their digests, its family and its card."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from perfusion_registry.base.card import CARD_FILE, BaseCard
from perfusion_registry.base.digest import file_digest
from perfusion_registry.base.family import cross_attention_shapes, family_digest
from perfusion_registry.base.hub import snapshot
from perfusion_registry.base.licence import base_licence
from perfusion_registry.base.reference import BaseReference
from perfusion_registry.base.weights import tensor_entries, weight_files
from perfusion_registry.errors import PerfError

MODELS = ("text_encoder", "unet", "vae")
_SUITABLE = 'use a base like Stable Diffusion 1.x or 2.x, or "storybook"'
_INCOMPLETE = "fetch the base again; something of it is missing or damaged"


@dataclass(frozen=True)
class BaseFile:
    """One file that a base is made of. path: within the base's folder, with `/`. sha256: hex. size: bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class BaseDescription:
    """A base that is present on this machine.

    repo: as in `BaseReference.repo`. revision: 40 hex digits for a hub model, else None.
    folder: where it lies. files: what it is made of, sorted by path. digest: hex sha256 over `files`.
    family: hex sha256; concepts transfer between bases of one family. card: its defaults.
    variant: None, or "fp16" when its weights only exist under that name.
    """

    repo: str
    revision: str | None
    folder: Path
    files: tuple[BaseFile, ...]
    digest: str
    family: str
    card: BaseCard
    variant: str | None = None

    @property
    def covariance(self) -> Path | None:
        """The covariance file that ships with the base, or None."""
        path = self.folder / self.card.covariance
        return path if path.is_file() else None

    @property
    def licence(self) -> str | None:
        """What the model card beside the weights says; None where nothing is said."""
        return base_licence(self.folder)


def describe_base(
    reference: BaseReference | str, *, root: Path | None = None, allow_download: bool | None = None
) -> BaseDescription:
    """Find a base on this machine and describe it, without importing torch.

    root: what a relative folder is relative to; the working directory by default.
    allow_download: whether a hub model that is not here may be downloaded; None asks PERF_ALLOW_DOWNLOAD.
    Raises PerfError when the base is not here, incomplete, or not a UNet with text cross-attention.
    """
    if isinstance(reference, str):
        reference = BaseReference.parse(reference)
    revision = None
    if reference.kind == "embedded":
        folder = Path(str(resources.files("perfusion_registry"))) / "storybook" / "weights"
        if not (folder / "model_index.json").is_file():
            raise PerfError(
                "the embedded base is not in this installation",
                where=str(folder),
                hint="reinstall perfusion-registry, or name another base in perfusion.toml",
            )
    elif reference.kind == "hub":
        folder = snapshot(reference, allow_download=allow_download, complete=_is_complete)
        revision = folder.name
    else:
        folder = ((root or Path.cwd()) / Path(reference.repo).expanduser()).resolve()
        if not folder.is_dir():
            raise PerfError(
                "the base's folder does not exist",
                where=str(folder),
                hint='name the folder of a diffusers model, a model of the hub as owner/name, or "storybook"',
            )
    return _describe(reference.repo, revision, folder)


def _describe(repo: str, revision: str | None, folder: Path) -> BaseDescription:
    index = _read_json(folder / "model_index.json")
    _require_suitable(index, folder)
    variant = _variant(folder)
    weights = {model: weight_files(folder / model, variant) for model in MODELS}
    for model, found in weights.items():
        if not found:
            pickled = any((folder / model).glob("*.bin"))
            raise PerfError(
                f"the base's {model} has no safetensors weights" + (", only pickled ones" if pickled else ""),
                where=str(folder / model),
                hint="convert them to safetensors; perf never opens pickles" if pickled else _INCOMPLETE,
            )
    tensors = {
        model: {name: entry for path in _tensor_files(found) for name, entry in tensor_entries(path).items()}
        for model, found in weights.items()
    }
    if not cross_attention_shapes(tensors["unet"]):
        raise PerfError("the base's UNet has no text cross-attention", where=str(folder), hint=_SUITABLE)
    card = BaseCard.read(folder)
    files = tuple(
        BaseFile(path.relative_to(folder).as_posix(), file_digest(path), path.stat().st_size)
        for path in sorted(
            _files(folder, card, weights), key=lambda path: path.relative_to(folder).as_posix()
        )
    )
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in files)
    text_config = _read_json(folder / "text_encoder" / "config.json")
    return BaseDescription(
        repo=repo,
        revision=revision,
        folder=folder,
        files=files,
        digest=hashlib.sha256(lines.encode()).hexdigest(),
        family=family_digest(text_config, _tensor_files(weights["text_encoder"]), tensors["unet"]),
        card=card,
        variant=variant,
    )


def _variant(folder: Path) -> str | None:
    """The name under which every model has weights: the plain one, unless only "fp16" is complete."""
    complete = {
        variant: all(weight_files(folder / model, variant) for model in MODELS) for variant in (None, "fp16")
    }
    return "fp16" if complete["fp16"] and not complete[None] else None


def _require_suitable(index: dict[str, Any], folder: Path) -> None:
    """Raise PerfError unless the components are those of Stable Diffusion 1.x or 2.x."""
    kinds = {name: said[1] for name, said in index.items() if isinstance(said, list) and len(said) == 2}
    named = str(index.get("_class_name", "a model of an unknown kind"))
    problem = None
    if kinds.get("transformer"):
        problem = "it draws with a transformer instead of a UNet"
    elif kinds.get("unet") != "UNet2DConditionModel":
        problem = "it has no UNet with text cross-attention"
    elif kinds.get("text_encoder_2"):
        problem = "it has two text encoders, which perf cannot use yet"
    elif kinds.get("text_encoder") != "CLIPTextModel":
        problem = "its text encoder is not a CLIP text model"
    if problem:
        raise PerfError(f"{named} cannot carry concepts: {problem}", where=str(folder), hint=_SUITABLE)


def _files(folder: Path, card: BaseCard, weights: dict[str, tuple[Path, ...]]) -> set[Path]:
    """Every file that changes what the base draws or how its pictures are scored; never the covariance."""
    found = {folder / "model_index.json", folder / CARD_FILE}
    for found_weights in weights.values():
        found.update(found_weights)
    for model in MODELS:
        found.add(folder / model / "config.json")
    for plain in ("scheduler", "tokenizer"):
        found.update(path for path in (folder / plain).glob("*") if path.suffix in (".json", ".txt"))
    clip = folder / card.clip
    found.update(weight_files(clip))
    found.update(path for path in clip.glob("*") if path.suffix in (".json", ".txt"))
    return {path for path in found if path.is_file()}


def _tensor_files(files: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(path for path in files if path.suffix == ".safetensors")


def _is_complete(folder: Path) -> bool:
    """Whether every model of a (perhaps partly downloaded) folder has its weights."""
    models = [folder / model for model in MODELS]
    return (folder / "model_index.json").is_file() and any(
        all(files and all(path.is_file() for path in files) for files in chosen)
        for chosen in ([weight_files(model, variant) for model in models] for variant in (None, "fp16"))
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PerfError(
            f"this is not a diffusers folder: it has no {path.name}", where=str(path.parent), hint=_SUITABLE
        ) from None
    except (OSError, ValueError) as error:
        raise PerfError("the file cannot be read as JSON", where=str(path), hint=_INCOMPLETE) from error
    if not isinstance(said, dict):
        raise PerfError("the file does not hold a JSON object", where=str(path), hint=_INCOMPLETE)
    return said
