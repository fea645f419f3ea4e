"""The file format of an artifact: safetensors with the concept card in its header.

Which tensors there are is the method's own affair (`methods/<name>/tensors.py`). The header's one metadata
key, `concept`, is the card as JSON. The same artifact always gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from perfusion_registry.artifact.card import CARD_SCHEMA, ConceptCard, card_fields, parse_card
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import LARGEST_ARTIFACT as LARGEST_ARTIFACT
from perfusion_registry.methods.interface import TensorRule
from perfusion_registry.methods.table import find_method
from perfusion_registry.safetensors_header import HeaderError, read_header

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LARGEST_HEADER = 4 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""Of a tensor, whatever the method."""


@dataclass(frozen=True)
class Artifact:
    """One built concept version: its card and its tensors, keyed as in the file format.

    format_1: the very same concept in format 1, where it was just built and format 1 has its method. A file
    holds one of the two.
    """

    card: ConceptCard
    tensors: dict[str, Tensor]
    format_1: Artifact | None = None


def save_artifact(artifact: Artifact) -> bytes:
    """The artifact's file: each tensor in the precision that its method keeps it in.

    Raises PerfError when the tensors are not those of the method (a missing one, a wrong shape, a value that
    is not finite, or not finite in fp16).
    """
    import torch
    from safetensors.torch import save

    rules = None if artifact.card.hindrance else find_method(artifact.card.method).tensor_rules
    tensors = {
        key: value.detach()
        .to("cpu", _dtype(rules, key) or value.dtype)
        .clone(memory_format=torch.contiguous_format)
        for key, value in sorted(artifact.tensors.items())
    }
    _check(artifact.card, tensors, f"artifact of {artifact.card.name}")
    # One metadata key only: safetensors writes several in an arbitrary order.
    card = json.dumps(
        card_fields(artifact.card).model_dump(mode="json", exclude_none=True),
        sort_keys=True,
        separators=(",", ":"),
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
        return parse_card(text)
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
    """Raise PerfError unless the tensors are those of the card's method. Of a method that this perf does not
    have, any finite ones will do.
    """
    import torch

    known = card.hindrance is None
    rules = find_method(card.method).tensor_rules if known else None
    for key, value in tensors.items():
        rule = _rule(rules, key)
        if (known and rule is None) or not _NAME.fullmatch(key):
            raise _malformed(f"it has an unknown tensor `{key[:100]!r}`", where)
        if rule is not None:
            expected = _DTYPES[rule.half]
            if str(value.dtype).removeprefix("torch.") not in expected:
                raise _malformed(f"the tensor `{key}` is {value.dtype}, not {_torch(expected)}", where)
            if rule.dimensions not in (None, value.ndim) or value.numel() == 0:
                needed = "two dimensions" if rule.dimensions == 2 else "one dimension"
                raise _malformed(f"the tensor `{key}` has shape {tuple(value.shape)}, not {needed}", where)
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise _malformed(f"the tensor `{key}` has values that are not finite", where)
    if known:
        mistake = find_method(card.method).tensor_mistake(card.train, tensors)
        if mistake is not None:
            raise _malformed(mistake, where)


def _rule(rules: Sequence[TensorRule] | None, key: str) -> TensorRule | None:
    """The rule that a tensor's name follows."""
    return next((rule for rule in rules or () if re.fullmatch(rule.pattern, key)), None)


def _dtype(rules: Sequence[TensorRule] | None, key: str) -> torch.dtype | None:
    """What a tensor is kept in; None where nothing is known of it."""
    import torch

    rule = _rule(rules, key)
    if rule is None or rule.half is None:
        return None
    return torch.float16 if rule.half else torch.float32


_DTYPES = {True: ("float16",), False: ("float32",), None: ("float32", "float16", "bfloat16")}
"""What a rule lets in, by its `half`."""


def _torch(names: Sequence[str]) -> str:
    return " or ".join(f"torch.{name}" for name in names)


def _malformed(why: str, where: str) -> PerfError:
    return PerfError(
        f"this is not a whole artifact: {why}", where=where, hint="build the concept again, or fetch it again"
    )
