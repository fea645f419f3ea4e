"""What was counted of a corpus for a covariance: by one run, by a shard of several, or by all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from perfusion_registry.build.covariance import Covariance, CovarianceCard
from perfusion_registry.build.exact_sum import ExactSum
from perfusion_registry.build.tensorfile import parse_tensors, write_tensors
from perfusion_registry.errors import PerfError
from perfusion_registry.shards import WHOLE, Shard

_KEY = "covariance_progress"
_TOKENS, _PADDING = "tokens", "padding"


class Counts(BaseModel):
    """Of what, and how much of it.

    base: by its name, for people. shard: of the windows of captions, every n-th, from the i-th on. corpus,
    captions, skipped: of all that was read, with what other shards encode; skipped: rows that were left out.
    The rest is of this shard alone. counted: its captions. sampled: padding positions computed.
    padded: padding positions that there are, in all its captions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = 2
    base: str
    encoder: str
    text_weights: str = "unknown"
    padding: Literal["all", "none"]
    padding_sample: int
    shard: Shard = WHOLE
    corpus: str = ""
    captions: int = 0
    skipped: int = 0
    counted: int = 0
    tokens: int = 0
    sampled: int = 0
    padded: int = 0

    @property
    def inputs(self) -> dict[str, object]:
        """What two must have in common to be of one covariance."""
        return self.model_dump(include={"encoder", "padding", "padding_sample"})


@dataclass(frozen=True, eq=False)
class Counted:
    """Counts, and the sums of e e^T over tokens and over sampled padding."""

    counts: Counts
    tokens: ExactSum
    padding: ExactSum

    @classmethod
    def nothing(cls, counts: Counts, width: int, device: torch.device | str = "cpu") -> Counted:
        """Before the first caption."""
        return cls(counts, ExactSum.zero(width, device), ExactSum.zero(width, device))

    def covariance(self) -> Covariance:
        """The mean. Raises PerfError where nothing was counted."""
        counts = self.counts
        if counts.counted == 0:
            raise PerfError("There are no captions to estimate a covariance from")
        total, positions = self.tokens.total(), counts.tokens
        if counts.sampled:
            total = total + self.padding.total() * (counts.padded / counts.sampled)
            positions += counts.padded
        card = CovarianceCard(
            corpus=counts.corpus,
            captions=counts.counted,
            tokens=counts.tokens,
            positions=positions,
            padding=counts.padding,
            padding_sample=counts.padding_sample,
            encoder=counts.encoder,
            text_weights=counts.text_weights,
        )
        return Covariance(total / positions, card)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        sums: dict[str, Tensor] = {_TOKENS: self.tokens.limbs, _PADDING: self.padding.limbs}
        write_tensors(path, sums, _KEY, self.counts.model_dump_json())


def load_counted(path: Path, device: torch.device | str = "cpu") -> Counted:
    """Read what `save` wrote. Raises PerfError for another file."""
    where = str(path)
    try:
        sums, text = parse_tensors(path.read_bytes(), _KEY, where)
        counts = Counts.model_validate_json(text or "")
        tokens, padding = (ExactSum(sums[name].to(device)) for name in (_TOKENS, _PADDING))
    except OSError as error:
        raise PerfError(f"Cannot read it: {error.strerror or error}", where=where) from error
    except (ValidationError, KeyError) as error:
        raise PerfError("this is no part of a covariance that this perf can read", where=where) from error
    return Counted(counts, tokens, padding)


def merged(paths: Sequence[Path]) -> Counted:
    """The whole of a corpus from the files of all its shards, in any order.

    Raises PerfError where one is missing, is there twice, or is of other captions, another base or other
    options than the first.
    """
    whole: Counted | None = None
    by_shard: dict[int, Path] = {}
    for path in paths:
        part = load_counted(path)
        counts, (number, count) = part.counts, part.counts.shard
        if number in by_shard:
            raise PerfError(f"shard {number}/{count} is given twice", where=f"{by_shard[number]} and {path}")
        by_shard[number] = path
        if whole is None:
            whole = part
            continue
        first = whole.counts
        for what, same in (
            ("another base or other options", first.inputs == counts.inputs),
            ("other captions", (first.corpus, first.captions) == (counts.corpus, counts.captions)),
            (f"{count} shards and not of {first.shard[1]}", first.shard[1] == count),
        ):
            if not same:
                raise PerfError(f"this shard is of {what} than the first", where=str(path))
        whole.tokens.merge(part.tokens)
        whole.padding.merge(part.padding)
        names = ("counted", "tokens", "sampled", "padded")
        added = {name: getattr(first, name) + getattr(counts, name) for name in names}
        whole = Counted(first.model_copy(update=added), whole.tokens, whole.padding)
    if whole is None:
        raise PerfError("there are no shards to merge")
    count = whole.counts.shard[1]
    missing = [f"{number}/{count}" for number in range(1, count + 1) if number not in by_shard]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise PerfError(
            f"shards are missing: {', '.join(missing[:8])}{more}",
            hint=f"run `perf covariance CAPTIONS --shard {missing[0]} --out FILE` and merge again",
        )
    return Counted(whole.counts.model_copy(update={"shard": WHOLE}), whole.tokens, whole.padding)
