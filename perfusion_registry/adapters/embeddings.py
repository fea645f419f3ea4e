"""Textual inversions in files: whole files of them, and those that lie in a LoRA (`bundle_emb`).

    A1111         `emb_params`; for SDXL `clip_l` and `clip_g`
    diffusers     one tensor, called as its token; for SDXL `clip_l` and `clip_g`, or `text_encoders_0` and 1
    in a LoRA     `bundle_emb.WORD.clip_l`, `.clip_g`; `.string_to_param.*`

Shapes are (n, d_token), or (d_token,) for one. Importing this needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from perfusion_registry.errors import PerfError

_ENCODERS = ("text_encoder", "text_encoder_2")
_PAIRS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
_ALONE = ("emb_params", "clip_l", "clip_h", "text_encoders_0")
_BUNDLED = re.compile(r"bundle_emb\.(?P<word>.+)\.(?P<name>[\w*]+)")
_IN_BUNDLES = {"clip_l": 0, "clip_h": 0, "clip_g": 1, "string_to_param": 0, "emb_params": 0}


def embedding_names(names: Mapping[str, object]) -> list[str]:
    """The tensors of a textual inversion, one for each text encoder in their order; none where it is none."""
    for pair in _PAIRS:
        if set(pair) <= names.keys():
            return list(pair) if len(names) == 2 else []
    for alone in _ALONE:
        if alone in names:
            return [alone] if len(names) == 1 else []
    return list(names) if len(names) == 1 else []


def embedding_shapes(shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[int, int]] | None:
    """(vectors, width) for each text encoder of the tensors of a textual inversion; None where they are none.

    shapes: by name.
    """
    found = [shapes[name] for name in embedding_names(shapes)]
    if not found or not all(len(shape) in (1, 2) and all(shape) for shape in found):
        return None
    pairs = [(shape[0] if len(shape) == 2 else 1, shape[-1]) for shape in found]
    return pairs if len({count for count, _ in pairs}) == 1 else None


def word_of(name: str) -> str | None:
    """The word that a tensor's name is, where the name is not one that all files have."""
    return None if name in _ALONE or any(name in pair for pair in _PAIRS) else name


def bundled(keys: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, str]]:
    """The embeddings within a LoRA: by word, the key of each text encoder's. keys: with their shapes.

    Raises PerfError for what it cannot read, and where a word has other numbers of tokens in two encoders.
    """
    found: dict[str, dict[str, str]] = {}
    for key, shape in keys.items():
        if not key.startswith("bundle_emb."):
            continue
        text = key.removesuffix(".*")
        match = _BUNDLED.fullmatch(text)
        if match is None or match["name"] not in _IN_BUNDLES or len(shape) not in (1, 2) or not all(shape):
            raise PerfError(
                f"its embedding `{key[:100]}` is of no kind that perf knows",
                hint="save the LoRA without embeddings in it, or with those of CLIP alone",
            )
        found.setdefault(match["word"], {})[_ENCODERS[_IN_BUNDLES[match["name"]]]] = key
    for word, own in found.items():
        counts = {keys[key][0] if len(keys[key]) == 2 else 1 for key in own.values()}
        if len(counts) != 1:
            raise PerfError(f"its embedding `{word[:100]}` has other numbers of tokens in two text encoders")
    return found


def encoders(count: int) -> tuple[str, ...]:
    """The components of a textual inversion with that many tensors."""
    return _ENCODERS[:count]
