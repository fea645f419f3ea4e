"""Estimating C: captions of any number through the text encoder, resumable, in one pass (Appendix C).

SD's text encoder is causal, so the tokens of a caption have the same encodings with or without the padding
after them. Captions are therefore encoded unpadded, batched by length. Padding positions do depend on their
caption; they are computed for a systematic sample of the captions and weighted up to what counting every
padding position of every caption would give. An encoder that turns out not to be causal is given full-length
prompts instead.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from perfusion_registry.base.memory import enough_memory
from perfusion_registry.build.covariance import Covariance, CovarianceCard
from perfusion_registry.build.tensorfile import parse_tensors, write_tensors
from perfusion_registry.errors import PerfError
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Tokens

_KEY = "covariance_progress"  # of the progress in the checkpoint's header
WINDOW = 2048
"""Captions that are sorted by length together; fixed, so that a resumed run sums in the same order."""


def estimate_covariance(
    base: Base,
    captions: Iterable[str],
    *,
    padding: Literal["all", "none"] = "all",
    padding_sample: int = 16,
    batch_tokens: int = 8192,
    total: int | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    reporter: Reporter | None = None,
) -> Covariance:
    """Estimate C over every position of every caption: start, words, end and, with padding="all", padding.

    captions: read once, in order, duplicates counted. padding: not counted where the base's layers do not
    look at it. padding_sample: padding is computed for every so many-th caption; 1 is exact. batch_tokens:
    how many positions are encoded at once; the result does not depend on it.
    total: how many captions there will be, for the progress bar alone.
    checkpoint: a file of the sums so far, `checkpoint_seconds` old at most. When it exists and the same
    captions come again, the run continues from it and ends with the same bytes. The caller removes it.
    Raises PerfError when there are no captions, or when the checkpoint is of another run.
    """
    padding = padding if base.attends_to_padding else "none"
    about = base.description
    start = _Progress(
        encoder=about.text_digest,
        text_weights=about.text_weights,
        padding=padding,
        padding_sample=padding_sample,
    )
    progress, sums = _restore(checkpoint, start, base)
    stream = iter(captions)
    corpus = hashlib.sha256()
    for caption in islice(stream, progress.captions):
        _digest(corpus, caption)
    if progress.corpus not in {"", corpus.hexdigest()}:
        what = "The checkpoint was made from other captions than these"
        raise PerfError(what, where=str(checkpoint), hint="give the same captions, or delete the checkpoint")
    encoder = _Encoder(base, batch_tokens)
    saved = time.monotonic()
    lower = "lower batch_tokens, or use --device cpu; the captions that were counted are kept"
    with (
        (reporter or Silent()).stage("encoding captions", total) as stage,
        torch.inference_mode(),
        enough_memory(f"there is not enough memory to encode captions on {base.device}", lower),
    ):
        stage.advance(progress.captions, "resumed" if progress.captions else "")
        while window := list(islice(stream, WINDOW)):
            for caption in window:
                _digest(corpus, caption)
            progress = _count(base, encoder, window, progress, sums).model_copy(
                update={"corpus": corpus.hexdigest()}
            )
            stage.advance(len(window), f"{progress.tokens:,} tokens")
            if checkpoint and time.monotonic() - saved >= checkpoint_seconds:
                write_tensors(checkpoint, sums, _KEY, progress.model_dump_json())
                saved = time.monotonic()
    if progress.captions == 0:
        raise PerfError("There are no captions to estimate a covariance from")
    return _mean(progress, sums)


class _Progress(BaseModel):
    """What has been counted so far, and of what; it travels in the checkpoint beside the sums.

    sampled: padding positions computed. padded: padding positions that there are, in all captions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    text_weights: str = "unknown"
    padding: Literal["all", "none"]
    padding_sample: int
    corpus: str = ""
    captions: int = 0
    tokens: int = 0
    sampled: int = 0
    padded: int = 0


def _restore(checkpoint: Path | None, start: _Progress, base: Base) -> tuple[_Progress, dict[str, Tensor]]:
    """The progress and the sums of e e^T, each (d, d) float64: over tokens, and over sampled padding."""
    d = base.bank.W.shape[1]
    device = base.device if base.device.type == "cuda" else torch.device("cpu")
    if checkpoint is None or not checkpoint.exists():
        zero = torch.zeros(d, d, dtype=torch.float64, device=device)
        return start, {"tokens": zero, "padding": zero.clone()}
    where, hint = str(checkpoint), "delete the checkpoint to start again"
    try:
        sums, text = parse_tensors(checkpoint.read_bytes(), _KEY, where)
        progress = _Progress.model_validate_json(text or "")
    except OSError as error:
        raise PerfError(f"Cannot read the checkpoint: {error.strerror or error}", where=where) from error
    except ValidationError as error:
        raise PerfError("The checkpoint is not one of a covariance", where=where, hint=hint) from error
    fixed = {"encoder", "padding", "padding_sample"}
    if progress.model_dump(include=fixed) != start.model_dump(include=fixed):
        raise PerfError("The checkpoint was made with another base or padding", where=where, hint=hint)
    return progress, {name: tensor.to(device) for name, tensor in sums.items()}


def _digest(corpus: hashlib._Hash, caption: str) -> None:
    corpus.update(caption.encode("utf-8", "surrogatepass") + b"\0")


class _Encoder:
    """Captions to encodings, in batches of about `batch_tokens` positions."""

    def __init__(self, base: Base, batch_tokens: int) -> None:
        self._base, self._batch_tokens = base, batch_tokens
        self.length = base.text_length
        probe = base.tokenise_captions(["a photo of a cat"])
        alone, within = base.encode(probe).states, base.encode(probe, length=self.length).states
        difference = (alone - within[:, : probe[0].length]).square().mean() / alone.square().mean()
        self._causal = (
            float(difference.sqrt()) < 0.02
        )  # half precision rounds; attention to padding does more

    def batches(self, captions: Sequence[Tokens], *, padded: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Encodings E (B, n, d) fp32 and the lengths (B, 1) of their captions, shortest captions first."""
        fixed = self.length if padded or not self._causal else 0
        batch: list[Tokens] = []
        for row in sorted(captions, key=lambda row: row.length):
            if batch and (len(batch) + 1) * (fixed or row.length) > self._batch_tokens:
                yield self._batch(batch, fixed)
                batch = []
            batch.append(row)
        if batch:
            yield self._batch(batch, fixed)

    def _batch(self, rows: Sequence[Tokens], fixed: int) -> tuple[Tensor, Tensor]:
        E = self._base.encode(rows, length=fixed or None).states
        return E, torch.tensor([[row.length] for row in rows], device=E.device)


def _count(
    base: Base, encoder: _Encoder, window: Sequence[str], progress: _Progress, sums: dict[str, Tensor]
) -> _Progress:
    """Add one window of captions to `sums`; returns the progress after it."""
    rows = base.tokenise_captions(window)
    for E, lengths in encoder.batches(rows, padded=False):
        real = torch.arange(E.shape[1], device=E.device) < lengths  # (B, n)
        _add(sums["tokens"], E[real])
    sampled = 0
    if progress.padding == "all":
        first = -progress.captions % progress.padding_sample
        sample = rows[first :: progress.padding_sample]
        for E, lengths in encoder.batches(sample, padded=True):
            _add(sums["padding"], E[torch.arange(E.shape[1], device=E.device) >= lengths])
        sampled = sum(encoder.length - row.length for row in sample)
    return progress.model_copy(
        update={
            "captions": progress.captions + len(window),
            "tokens": progress.tokens + sum(row.length for row in rows),
            "sampled": progress.sampled + sampled,
            "padded": progress.padded + sum(encoder.length - row.length for row in rows),
        }
    )


def _add(total: Tensor, e: Tensor) -> None:
    """total += sum of e e^T in float64. e: (m, d)."""
    e = e.to(total.device, torch.float64)
    total += e.T @ e


def _mean(progress: _Progress, sums: dict[str, Tensor]) -> Covariance:
    total, positions = sums["tokens"], progress.tokens
    if progress.sampled:
        total = total + sums["padding"] * (progress.padded / progress.sampled)
        positions += progress.padded
    C = (total / positions).cpu()
    card = CovarianceCard(
        corpus=progress.corpus,
        captions=progress.captions,
        tokens=progress.tokens,
        positions=positions,
        padding=progress.padding,
        padding_sample=progress.padding_sample,
        encoder=progress.encoder,
        text_weights=progress.text_weights,
    )
    return Covariance((C + C.T) / 2, card)
