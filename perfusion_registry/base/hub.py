"""Models of the Hugging Face Hub: found in its local cache, downloaded only when the user has allowed it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from perfusion_registry.base.files import INDEX, MODULAR_INDEX, BaseFiles
from perfusion_registry.base.reference import BaseReference
from perfusion_registry.errors import PerfError

ALLOW_VARIABLE = "PERF_ALLOW_DOWNLOAD"
_PLAIN = (
    INDEX,
    MODULAR_INDEX,
    "scheduler/*.json",
    "*tokenizer*/*.json",
    "*tokenizer*/*.txt",
    "*tokenizer*/spiece.model",
    "*/config.json",
    "README.md",  # its front matter tells the licence
    # What only a base made for perf has:
    "perf-base.toml",
    "covariance.safetensors",
    "clip/*.json",
    "clip/*.txt",
    "clip/*.safetensors",
)


class NotDownloadedError(PerfError):
    """A model of the hub is not on this machine, and nobody said that it may be downloaded."""


def snapshot(
    reference: BaseReference,
    *,
    allow_download: bool | None,
    models: Callable[[Path], tuple[str, ...]],
) -> Path:
    """The folder of a hub model at its revision; its name is the commit, 40 hex digits.

    allow_download: None asks the environment (PERF_ALLOW_DOWNLOAD). models: the components with weights of
    the base in a folder, told by its JSON files; it raises PerfError for a base that cannot carry concepts,
    whose weights then are not downloaded. Raises PerfError when the model is not here and may not, or cannot,
    be downloaded.
    """
    local = _local_snapshot(reference, INDEX) or _local_snapshot(reference, MODULAR_INDEX)
    if local is not None and BaseFiles(local).is_complete(models(local)):
        return local
    if not (downloads_allowed() if allow_download is None else allow_download):
        raise _missing(f"the model {reference.text!r}", reference.repo, reference.revision)
    needed = models(_download(reference, _PLAIN))
    # Weights under their plain names are enough where there are any; some models only have others.
    for infix in ("", ".fp16", ".bf16", ".non_ema"):
        wanted = tuple(
            f"{model}/{stem}"
            for model in needed
            for stem in (
                f"diffusion_pytorch_model{infix}.safetensors",
                f"model{infix}.safetensors",
                f"*.safetensors.index{infix}.json",
                f"*-of-*{infix}.safetensors" if not infix else f"*{infix}-*-of-*.safetensors",
            )
        )
        folder = _download(reference, (*_PLAIN, *wanted))
        if BaseFiles(folder).is_complete(needed):
            return folder
    raise PerfError(
        f"the model {reference.text!r} has no safetensors weights for each of its models",
        hint="choose a base that has them; perf never opens pickles",
    )


def model_folder(
    reference: BaseReference, allow_download: bool | None, file: str = "model.safetensors"
) -> Path:
    """The folder of a hub model that is one model, such as CLIPSeg; as `snapshot` otherwise. file: the name
    of its weights, which transformers and diffusers call differently."""
    patterns = ("*.json", "*.txt", file)
    local = _local_snapshot(reference, file)
    if local is not None:
        return local
    if not (downloads_allowed() if allow_download is None else allow_download):
        raise _missing(f"the model {reference.text!r}", reference.repo, reference.revision)
    return _download(reference, patterns)


def _local_snapshot(reference: BaseReference, file: str) -> Path | None:
    """The model's folder in the local cache if `file` is in it, else None. Opens no socket."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            reference.repo, revision=reference.revision, allow_patterns=[file], local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise PerfError(f"{reference.repo!r} is no name of a hub model: {error}") from error
    return Path(folder) if (Path(folder) / file).is_file() else None


def downloads_allowed() -> bool:
    """Whether the environment allows downloads of models."""
    return os.environ.get(ALLOW_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def _missing(what: str, repo: str, revision: str | None) -> PerfError:
    """The error for a model that is not on this machine, with the ways to get it."""
    at = f" --revision {revision}" if revision else ""
    return NotDownloadedError(
        f"{what} is not on this machine",
        hint=f"set {ALLOW_VARIABLE}=1 to let perf download it, or run `hf download {repo}{at}`",
    )


def _download(reference: BaseReference, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    with _download_errors(f"the model {reference.text!r}"):
        return Path(
            snapshot_download(reference.repo, revision=reference.revision, allow_patterns=list(patterns))
        )


@contextmanager
def _download_errors(what: str) -> Iterator[None]:
    """Within it, what can go wrong in a download of `what` becomes a PerfError."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise PerfError(
            f"{what} is gated", hint="accept its terms on the Hub, then `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise PerfError(f"{what} has no such revision", hint="look it up on the model's page") from error
    except RepositoryNotFoundError as error:
        raise PerfError(
            f"{what} is not on the Hub, or it is private", hint="check the name, or run `hf auth login`"
        ) from error
    except HFValidationError as error:
        raise PerfError(f"{what} is no name of a hub model") from error
    except OfflineModeIsEnabled as error:
        raise PerfError(f"{what} cannot be downloaded while HF_HUB_OFFLINE is set") from error
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise PerfError(
            f"{what} could not be downloaded: the Hub does not answer", hint="try again"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise PerfError(
                f"the disk is full; {what} does not fit",
                hint="make room, or set HF_HOME to a folder on another disk",
            ) from error
        raise PerfError(f"{what} could not be downloaded: {error}", hint="try again") from error
