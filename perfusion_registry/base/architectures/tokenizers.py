"""The tokenizers of T5 and of Qwen in a base's folder. Importing this needs no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from perfusion_registry.errors import PerfError

_WHOLE = ("tokenizer.json", "vocab.json")
_SENTENCEPIECE = "spiece.model"


def require_tokenizer(folder: Path) -> None:
    """Raise PerfError where there is no tokenizer in a folder, or one that cannot be read here."""
    if any((folder / name).is_file() for name in _WHOLE):
        return
    if not (folder / _SENTENCEPIECE).is_file():
        raise PerfError(
            f"the base has no {folder.name}: some are published without, or with one of another model",
            where=str(folder),
            hint=f"put the tokenizer's files there ({_WHOLE[0]} and tokenizer_config.json)",
        )
    needed = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}
    absent = [name for name, module in needed.items() if not _there(module)]
    if absent:
        raise PerfError(
            f"the base's {folder.name} is there as {_SENTENCEPIECE} alone, and to read that needs "
            f"{' and '.join(absent)}",
            where=str(folder),
            hint=f"pip install {' '.join(absent)}, or put a {_WHOLE[0]} beside it",
        )


def load_fast_tokenizer(kind: str, folder: Path) -> Any:
    """A tokenizer of transformers. kind: its class. Raises PerfError when it is missing or broken."""
    require_tokenizer(folder)
    from perfusion_registry.base.pretrained import load_pretrained, quiet

    with quiet():
        import transformers

    return load_pretrained(getattr(transformers, kind), folder, f"the base's {folder.name}")


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False
