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
from torch import Tensor

from perfusion_registry.build.counted import Counted, Counts, load_counted
from perfusion_registry.build.covariance import Covariance
from perfusion_registry.build.exact_sum import ExactSum
from perfusion_registry.errors import PerfError
from perfusion_registry.memory import enough_memory
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.shards import WHOLE, Shard

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Tokens

WINDOW = 2048
"""Captions that are sorted by length together, and encoded by one shard; fixed, so that batches are the same
in every run."""


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

    As in `count`. Raises PerfError when there are no captions, or when the checkpoint is of another run.
    """
    counted = count(
        base,
        captions,
        padding=padding,
        padding_sample=padding_sample,
        batch_tokens=batch_tokens,
        total=total,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        reporter=reporter,
    )
    return counted.covariance()


def count(
    base: Base,
    captions: Iterable[str],
    *,
    shard: Shard = WHOLE,
    padding: Literal["all", "none"] = "all",
    padding_sample: int = 16,
    batch_tokens: int = 8192,
    total: int | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    reporter: Reporter | None = None,
) -> Counted:
    """Encode captions, or every n-th window of them, and sum e e^T: exactly, so that the shards of a corpus
    merge to the same bytes, however many they are.

    captions: read once, in order, duplicates counted; a shard is given all of them. padding: not counted
    where the base's layers do not look at it. padding_sample: padding is computed for every so many-th
    caption; 1 is exact. batch_tokens: how many positions are encoded at once; the result does not depend on
    it. total: how many captions there will be, for the progress bar alone. checkpoint: a file of the sums so
    far, `checkpoint_seconds` old at most. When it exists and the same captions come again, the run continues
    from it and ends with the same bytes. The caller removes it. Raises PerfError when the checkpoint is of
    another run, and for encodings that are not finite.
    """
    padding = padding if base.attends_to_padding else "none"
    about = base.description
    start = Counts(
        base=about.repo,
        encoder=about.text_digest,
        text_weights=about.text_weights,
        padding=padding,
        padding_sample=padding_sample,
        shard=shard,
    )
    counted = _restore(checkpoint, start, base)
    counts, stream = counted.counts, iter(captions)
    corpus = hashlib.sha256()
    for caption in islice(stream, counts.captions):
        _digest(corpus, caption)
    if counts.corpus not in {"", corpus.hexdigest()}:
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
        stage.advance(counts.captions, "resumed" if counts.captions else "")
        while window := list(islice(stream, WINDOW)):
            for caption in window:
                _digest(corpus, caption)
            if counts.captions // WINDOW % shard[1] == shard[0] - 1:
                counts = _count(base, encoder, window, counts, counted)
            read = {"captions": counts.captions + len(window), "corpus": corpus.hexdigest()}
            counts = counts.model_copy(update=read)
            stage.advance(len(window), f"{counts.tokens:,} tokens")
            if checkpoint and time.monotonic() - saved >= checkpoint_seconds:
                Counted(counts, counted.tokens, counted.padding).save(checkpoint)
                saved = time.monotonic()
    return Counted(counts, counted.tokens, counted.padding)


def _restore(checkpoint: Path | None, start: Counts, base: Base) -> Counted:
    """What the checkpoint has; nothing counted where there is none."""
    device = base.text_device if base.text_device.type == "cuda" else torch.device("cpu")
    if checkpoint is None or not checkpoint.exists():
        return Counted.nothing(start, base.bank.width, device)
    where, hint = str(checkpoint), "delete the checkpoint to start again"
    try:
        counted = load_counted(checkpoint, device)
    except PerfError as error:
        raise PerfError(f"The checkpoint cannot be resumed: {error.what}", where=where, hint=hint) from error
    if (counted.counts.inputs, counted.counts.shard) != (start.inputs, start.shard):
        raise PerfError("The checkpoint was made with another base, padding or shard", where=where, hint=hint)
    return counted


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


def _count(base: Base, encoder: _Encoder, window: Sequence[str], counts: Counts, sums: Counted) -> Counts:
    """Add one window of captions to the sums; returns the counts after it."""
    rows = base.tokenise_captions(window)
    for E, lengths in encoder.batches(rows, padded=False):
        real = torch.arange(E.shape[1], device=E.device) < lengths  # (B, n)
        _add(sums.tokens, E[real], base)
    sampled = 0
    if counts.padding == "all":
        first = -counts.captions % counts.padding_sample
        sample = rows[first :: counts.padding_sample]
        for E, lengths in encoder.batches(sample, padded=True):
            _add(sums.padding, E[torch.arange(E.shape[1], device=E.device) >= lengths], base)
        sampled = sum(encoder.length - row.length for row in sample)
    return counts.model_copy(
        update={
            "counted": counts.counted + len(window),
            "tokens": counts.tokens + sum(row.length for row in rows),
            "sampled": counts.sampled + sampled,
            "padded": counts.padded + sum(encoder.length - row.length for row in rows),
        }
    )


def _add(total: ExactSum, e: Tensor, base: Base) -> None:
    try:
        total.add(e)
    except ValueError as error:
        raise PerfError(
            f"the text encoder of {base.description.repo} gives what cannot be summed: {error}",
            hint="try --dtype float32; else its weights are damaged",
        ) from error
