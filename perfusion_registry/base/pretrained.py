"""Loading models of diffusers and transformers: from safetensors only, quietly, with clear errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.weights import tensor_entries, weight_files
from perfusion_registry.errors import PerfError
from perfusion_registry.memory import enough_memory, out_of_memory

if TYPE_CHECKING:
    import torch
    from torch import nn

# From here on, diffusers calls `torch_dtype` by the name that transformers has for it.
_RENAMED = Version("0.42")
BROKEN = "check that the files are complete; a damaged download can be deleted and fetched again"


def load_pretrained(kind: Any, folder: Path, what: str, **options: Any) -> Any:
    """`kind.from_pretrained(folder)` without network, pickles or progress bars.

    what: how an error calls the thing. options: passed on. Raises PerfError when the folder is missing or
    broken.
    """
    if not folder.is_dir():
        raise PerfError(f"{what} is missing", where=str(folder))
    with quiet(), _told(what, folder):
        return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options)


def from_single_file(kind: Any, file: Path, folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """A pipeline of class `kind` of a file that holds a whole base, its weights in `dtype`.

    folder: of the configurations of what the file holds. options: components that are not taken from it.
    Raises PerfError where the file lacks weights.
    """
    with quiet(), _told(f"the base {file.name!r}", file):
        options |= {dtype_option(): dtype, "config": str(folder), "local_files_only": True}
        pipe = kind.from_single_file(str(file), **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def wider_unet(file: Path, folder: Path, channels: int, dtype: torch.dtype) -> Any:
    """The UNet of a file that holds a whole base, where it takes other channels than its layout says.

    The rest as in `from_single_file`.
    """
    with quiet(), _told(f"the base {file.name!r}", file):
        from diffusers import UNet2DConditionModel

        own = {dtype_option(): dtype, "config": str(folder), "local_files_only": True}
        return UNet2DConditionModel.from_single_file(str(file), subfolder="unet", in_channels=channels, **own)


def _class_of(folder: Path, model: str) -> Any:
    """The class of a model, as the base's index names it. Raises PerfError for what is no model's class of
    diffusers or transformers: nothing else is imported because a folder says so."""
    index = folder / "model_index.json"
    with quiet(), _told(f"the base's {model}", index):
        library, name = json.loads(index.read_text(encoding="utf-8"))[model]
        if library not in ("diffusers", "transformers"):
            raise ValueError(f"it is a {name} of {library}, and not of diffusers or transformers")
        kind = getattr(import_module(library), name, None)
        if not hasattr(kind, "from_pretrained"):
            raise ValueError(f"{library} has no model called {name}")
        return kind


@contextmanager
def _told(what: str, where: Path) -> Iterator[None]:
    """Within it, what the libraries raise for broken files becomes a PerfError."""
    try:
        yield
    except PerfError:
        raise
    except Exception as error:  # of a broken configuration they raise anything, classes of their own too
        if out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PerfError(f"{what} cannot be loaded: {lines[0]}", where=str(where), hint=BROKEN) from error


def dtype_option() -> str:
    """What diffusers calls the format of the weights."""
    from diffusers import __version__

    return "dtype" if Version(__version__) >= _RENAMED else "torch_dtype"


def load_model(description: BaseDescription, model: str, kind: str, dtype: torch.dtype) -> Any:
    """One of a described base's models, its weights in `dtype`. kind: its class in diffusers or
    transformers. Raises PerfError where neither has it."""
    with quiet():
        import diffusers
        import transformers
    found = getattr(diffusers, kind, None)
    options = {"dtype" if found is None else dtype_option(): dtype, "variant": description.variants[model]}
    found = found or getattr(transformers, kind, None)
    if found is None:
        raise PerfError(
            f"the base's {model} is a {kind}, which the installed diffusers and transformers do not have",
            hint="pip install --upgrade diffusers transformers",
        )
    return load_pretrained(found, description.folder / model, f"the base's {model}", **options)


def load_pipeline(kind: Any, description: BaseDescription, dtype: torch.dtype, **options: Any) -> Any:
    """A described base's diffusers pipeline of class `kind`, its weights in `dtype`."""
    what, variants = f"the base {description.repo!r}", set(description.variants.values())
    options |= {dtype_option(): dtype}
    if len(variants) == 1:
        options["variant"] = variants.pop()
    else:  # a pipeline is loaded under one name
        for model, variant in description.variants.items():
            if model in options:
                continue
            own = {dtype_option(): dtype, "variant": variant}
            options[model] = load_pretrained(
                _class_of(description.folder, model), description.folder / model, f"the base's {model}", **own
            )
    pipe = load_pretrained(kind, description.folder, what, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def move(models: Sequence[nn.Module], device: torch.device) -> None:
    """Put models on a device, frozen and in evaluation mode. Raises PerfError when they do not fit, and when
    one lacks weights: diffusers leaves these without values."""
    for model in models:
        absent = [name for name, parameter in model.named_parameters() if parameter.is_meta]
        if absent:
            raise _incomplete(absent, type(model).__name__)
    what = f"the base does not fit into the memory of {device}"
    with enough_memory(what, "use --device cpu, or a smaller format"):
        for model in models:
            model.to(device).eval().requires_grad_(False)


def require_all_weights(model: nn.Module, folder: Path, variant: str | None) -> None:
    """Raise PerfError when a parameter is in no file; the libraries would only fill it with noise."""
    stored = {
        _plain(name)
        for path in weight_files(folder, variant)
        if path.suffix == ".safetensors"
        for name in tensor_entries(path)
    }
    wanted = {_plain(name) for name, _ in model.named_parameters()}
    absent = sorted(wanted - stored)
    if absent:
        raise _incomplete(absent, str(folder))


def _plain(name: str) -> str:
    """Without what stands before a text encoder's names where it was saved as a part of another model."""
    return name.removeprefix("text_model.").removeprefix("model.")


def _incomplete(absent: Sequence[str], where: str) -> PerfError:
    what = f"{len(absent)} of the model's weights are missing, such as {absent[0]}"
    return PerfError(what, where=where, hint=BROKEN)


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, diffusers and transformers draw no bars and log errors only, even while they import."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    logs = (diffusers_log, transformers_log)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    try:
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
