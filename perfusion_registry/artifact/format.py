"""The file format of an artifact: safetensors with the concept card in its header.

| tensor | meaning | shape | type |
|---|---|---|---|
| `embedding` | learned token embedding of the (first) text encoder | (d_token,) | fp32 |
| `embedding.2` ... | that of the second, and so on, of bases that have several | (d_token,) | fp32 |
| `target_input` | i* | (d,) | fp32 |
| `target_input_dual` | v = C^-1 i* | (d,) | fp32 |
| `output.<layer path>` | o*_V of one cross-attention layer | (its V width,) | fp16 |
| `output_key.<layer path>` | o*_K, only where keys were trained | (its K width,) | fp16 |
| `residual_down.<block path>` | A of a transformer block's residual, where one was learned | (r, m) | fp16 |
| `residual_up.<block path>` | B of it | (m', r) | fp16 |

The header's one metadata key, `concept`, is the card as JSON. The same artifact always gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from perfusion_registry.artifact.card import CARD_SCHEMA, ConceptCard
from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import HeaderError, read_header

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_HEADER = 512 * 1024
LARGEST_ARTIFACT = 64 * 1024 * 1024
EMBEDDING = "embedding"
TARGET_INPUT = "target_input"
TARGET_INPUT_DUAL = "target_input_dual"
OUTPUT = "output."
OUTPUT_KEY = "output_key."
RESIDUAL_DOWN = "residual_down."
RESIDUAL_UP = "residual_up."
_VECTORS = (EMBEDDING, TARGET_INPUT, TARGET_INPUT_DUAL)
_FURTHER_EMBEDDING = re.compile(r"embedding\.[2-9]\Z")
_LAYER = re.compile(r"(output|output_key|residual_down|residual_up)\.[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\Z")


@dataclass(frozen=True)
class Artifact:
    """One built concept version: its card and its tensors, keyed as in the file format."""

    card: ConceptCard
    tensors: dict[str, Tensor]

    def outputs(self) -> dict[str, Tensor]:
        """o*_V by layer path, each (its V width,)."""
        return {key[len(OUTPUT) :]: value for key, value in self.tensors.items() if key.startswith(OUTPUT)}

    def output_keys(self) -> dict[str, Tensor]:
        """Trained o*_K by layer path, each (its K width,); empty where the keys are locked."""
        return {
            key[len(OUTPUT_KEY) :]: value for key, value in self.tensors.items() if key.startswith(OUTPUT_KEY)
        }

    def residual(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A (r, m) and B (m', r) of the residual by transformer block; empty where none was learned."""
        return residual_of(self.tensors)


def embedding_name(encoder: int) -> str:
    """What the learned token embedding of a text encoder is called; `encoder` counts from 0."""
    return f"{EMBEDDING}.{encoder + 1}" if encoder else EMBEDDING


def embedding_tensors(embeddings: Sequence[Tensor]) -> dict[str, Tensor]:
    """The learned token embeddings of each text encoder by their names in a file."""
    return {embedding_name(encoder): embedding for encoder, embedding in enumerate(embeddings)}


def embeddings_of(tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The way back: the embeddings of each text encoder, from a file's tensors."""
    names = takewhile(tensors.__contains__, map(embedding_name, count()))
    return tuple(tensors[name] for name in names)


def residual_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each transformer block, from a file's tensors."""
    return {
        key[len(RESIDUAL_DOWN) :]: (value, tensors[RESIDUAL_UP + key[len(RESIDUAL_DOWN) :]])
        for key, value in tensors.items()
        if key.startswith(RESIDUAL_DOWN)
    }


def residual_tensors(residual: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The way back: A and B of each transformer block by their names in a file."""
    named = {}
    for path, (down, up) in residual.items():
        named[RESIDUAL_DOWN + path], named[RESIDUAL_UP + path] = down, up
    return named


def save_artifact(artifact: Artifact) -> bytes:
    """The artifact's file: fp16 outputs, everything else fp32.

    Raises PerfError when the tensors are not those of the format (a missing one, a wrong shape, a value that
    is not finite, or not finite in fp16).
    """
    import torch
    from safetensors.torch import save

    tensors = {
        key: value.detach()
        .to("cpu", torch.float32 if _is_vector(key) else torch.float16)
        .clone(memory_format=torch.contiguous_format)
        for key, value in sorted(artifact.tensors.items())
    }
    _check(artifact.card, tensors, f"artifact of {artifact.card.name}")
    # One metadata key only: safetensors writes several in an arbitrary order.
    card = json.dumps(
        artifact.card.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":")
    )
    return bytes(save(tensors, {"concept": card}))


def load_artifact(source: bytes | Path) -> Artifact:
    """Read an artifact; nothing in the file is trusted.

    Raises PerfError for every file that is not a whole, well-formed artifact that this perf knows.
    """
    data, where = _bytes(source)
    card = _card(data, where)

    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise _malformed(f"its tensors cannot be read ({error})", where) from error
    _check(card, tensors, where)
    return Artifact(card, tensors)


def read_card(source: bytes | Path) -> ConceptCard:
    """The card alone, without torch; raises PerfError like `load_artifact`."""
    return _card(*_bytes(source))


def _card(data: bytes, where: str) -> ConceptCard:
    try:
        text = read_header(data, limit=LARGEST_HEADER).metadata.get("concept")
    except HeaderError as error:
        raise _malformed(str(error), where) from error
    if text is None:
        raise _malformed("it has no concept card", where)
    try:
        version = json.loads(text).get("schema_version")
        if isinstance(version, int) and version > CARD_SCHEMA:
            raise PerfError(
                f"the artifact's card has format {version}; this perf reads up to {CARD_SCHEMA}",
                where=where,
                hint="upgrade perf (`pip install -U perfusion-registry`)",
            )
        return ConceptCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _malformed(f"its concept card is wrong at `{key}`: {first['msg']}", where) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise _malformed("its concept card is not a JSON object", where) from error


def _bytes(source: bytes | Path) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, f"artifact of {len(source):,} bytes"
    try:
        if source.stat().st_size > LARGEST_ARTIFACT:
            raise _malformed(f"it is larger than {LARGEST_ARTIFACT // 2**20} MB", str(source))
        return source.read_bytes(), str(source)
    except OSError as error:
        raise PerfError(
            f"the artifact cannot be read: {error.strerror or error}", where=str(source)
        ) from error


def _check(card: ConceptCard, tensors: dict[str, Tensor], where: str) -> None:
    """Raise PerfError unless the tensors are those of the format."""
    import torch

    for key in _VECTORS:
        if key not in tensors:
            raise _malformed(f"the tensor `{key}` is missing", where)
    for key, value in tensors.items():
        if not _is_vector(key) and not _LAYER.match(key):
            raise _malformed(f"it has an unknown tensor `{key[:100]!r}`", where)
        expected = torch.float32 if _is_vector(key) else torch.float16
        if value.dtype != expected:
            raise _malformed(f"the tensor `{key}` is {value.dtype}, not {expected}", where)
        dimensions = 2 if key.startswith((RESIDUAL_DOWN, RESIDUAL_UP)) else 1
        if value.ndim != dimensions or value.numel() == 0:
            needed = "two dimensions" if dimensions == 2 else "one dimension"
            raise _malformed(f"the tensor `{key}` has shape {tuple(value.shape)}, not {needed}", where)
        if not bool(torch.isfinite(value).all()):
            raise _malformed(f"the tensor `{key}` has values that are not finite", where)
    if len(embeddings_of(tensors)) != sum(key.startswith(EMBEDDING) for key in tensors):
        raise _malformed("its embeddings are not numbered one after the other", where)
    if tensors[TARGET_INPUT].shape != tensors[TARGET_INPUT_DUAL].shape:
        raise _malformed(f"`{TARGET_INPUT}` and `{TARGET_INPUT_DUAL}` differ in length", where)
    if float(tensors[TARGET_INPUT].double() @ tensors[TARGET_INPUT_DUAL].double()) <= 0:
        raise _malformed("the energy of its target input is not positive", where)
    values = {key[len(OUTPUT) :] for key in tensors if key.startswith(OUTPUT)}
    keys = {key[len(OUTPUT_KEY) :] for key in tensors if key.startswith(OUTPUT_KEY)}
    if not values:
        raise _malformed("it has no target outputs", where)
    if keys != (values if card.train.trained_keys else set()):
        raise _malformed("its trained keys do not match its card", where)
    ranks, raised = (
        {key[len(prefix) :]: value.shape[side] for key, value in tensors.items() if key.startswith(prefix)}
        for prefix, side in ((RESIDUAL_DOWN, 0), (RESIDUAL_UP, 1))
    )
    if ranks != raised or bool(ranks) != (card.train.residual_rank > 0):
        raise _malformed("its residual is not whole, or does not match its card", where)


def _is_vector(key: str) -> bool:
    """Whether a tensor is one of the vectors that a concept has once, in fp32."""
    return key in _VECTORS or _FURTHER_EMBEDDING.match(key) is not None


def _malformed(why: str, where: str) -> PerfError:
    return PerfError(
        f"this is not a whole artifact: {why}", where=where, hint="build the concept again, or fetch it again"
    )
