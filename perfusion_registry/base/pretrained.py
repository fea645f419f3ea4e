"""Loading models of diffusers and transformers: from safetensors only, quietly, with clear errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version
from safetensors import SafetensorError

from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.memory import enough_memory
from perfusion_registry.base.weights import tensor_entries, weight_files
from perfusion_registry.errors import PerfError

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
    try:
        with quiet():
            return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PerfError(f"{what} cannot be loaded: {lines[0]}", where=str(folder), hint=BROKEN) from error


def load_pipeline(kind: Any, description: BaseDescription, dtype: torch.dtype, **options: Any) -> Any:
    """A described base's diffusers pipeline of class `kind`, its weights in `dtype`."""
    from diffusers import __version__

    name = "dtype" if Version(__version__) >= _RENAMED else "torch_dtype"
    what = f"the base {description.repo!r}"
    options |= {name: dtype, "variant": description.variant}
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
        name.removeprefix("text_model.")
        for path in weight_files(folder, variant)
        if path.suffix == ".safetensors"
        for name in tensor_entries(path)
    }
    wanted = {name.removeprefix("text_model.") for name, _ in model.named_parameters()}
    absent = sorted(wanted - stored)
    if absent:
        raise _incomplete(absent, str(folder))


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
