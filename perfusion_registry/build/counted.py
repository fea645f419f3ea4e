"""What was counted of a corpus for a covariance: by one run, by a shard of several, or by all of them."""

from __future__ import annotations

import json
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
from perfusion_registry.safetensors_header import HeaderError, read_header
from perfusion_registry.shards import WHOLE, Shard

_KEY = "covariance_progress"
_VERSION: Literal[2] = 2
_TOKENS, _PADDING = "tokens", "padding"


class Counts(BaseModel):
    """Of what, and how much of it.

    base: by its name, for people. shard: of the windows of captions, every n-th, from the i-th on. corpus,
    captions, skipped: of all that was read, with what other shards encode; skipped: rows that were left out.
    The rest is of this shard alone. counted: its captions. sampled: padding positions computed.
    padded: padding positions that there are, in all its captions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = _VERSION
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
            raise no_captions()
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


def no_captions() -> PerfError:
    """That there is nothing to estimate from."""
    return PerfError(
        "There are no captions to estimate a covariance from",
        hint="give files of text with a caption a line, or tables with a column of them (--column NAME)",
    )


def counts_of(source: Path | bytes) -> Counts | None:
    """What a file that `save` wrote, or its bytes, says of itself; None for anything else."""
    try:
        return Counts.model_validate_json(read_header(source).metadata.get(_KEY, ""))
    except (OSError, HeaderError, ValidationError):
        return None


def load_counted(path: Path, device: torch.device | str = "cpu") -> Counted:
    """Read what `save` wrote. Raises PerfError for another file, and for one of another version of perf."""
    where, hint = str(path), "give what `perf covariance CAPTIONS --shard I/N --out FILE` wrote"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PerfError(
            f"the counts of a covariance cannot be read: {error.strerror or error}",
            where=where,
            hint="check the file's name, and that it may be read",
        ) from error
    try:
        sums, text = parse_tensors(data, _KEY, where)
        _check_version(text, where)
        counts = Counts.model_validate_json(text or "")
        tokens, padding = (ExactSum(sums[name].to(device)) for name in (_TOKENS, _PADDING))
    except (ValidationError, KeyError) as error:
        raise PerfError("this is no part of a covariance", where=where, hint=hint) from error
    except PerfError as error:
        raise PerfError(error.what, where=where, hint=error.hint or hint) from error
    return Counted(counts, tokens, padding)


def _check_version(text: str | None, where: str) -> None:
    """Refuse what another perf counted, if that is what the text says."""
    try:
        said = json.loads(text or "")
    except ValueError:
        return
    if isinstance(said, dict) and said.get("version") != _VERSION:
        raise PerfError(
            "this part of a covariance was counted by another version of perf",
            where=where,
            hint="count it again with this one",
        )


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
        if whole is not None:
            _check_alike(counts, whole.counts, path)
        if number in by_shard:
            raise PerfError(
                f"shard {number}/{count} is given twice",
                where=f"{by_shard[number]} and {path}",
                hint="give each shard once",
            )
        by_shard[number] = path
        if whole is None:
            whole = part
            continue
        first = whole.counts
        whole.tokens.merge(part.tokens)
        whole.padding.merge(part.padding)
        names = ("counted", "tokens", "sampled", "padded")
        added = {name: getattr(first, name) + getattr(counts, name) for name in names}
        whole = Counted(first.model_copy(update=added), whole.tokens, whole.padding)
    if whole is None:
        raise PerfError("there are no shards to merge", hint="give the files of all shards")
    count = whole.counts.shard[1]
    missing = [f"{number}/{count}" for number in range(1, count + 1) if number not in by_shard]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise PerfError(
            f"shards are missing: {', '.join(missing[:8])}{more}",
            hint=f"run `perf covariance CAPTIONS --shard {missing[0]} --out FILE` and merge again",
        )
    return Counted(whole.counts.model_copy(update={"shard": WHOLE}), whole.tokens, whole.padding)


def _check_alike(counts: Counts, first: Counts, path: Path) -> None:
    """Refuse a shard that is not of the corpus of the first, shared out as that is."""
    of, wanted = counts.shard[1], first.shard[1]
    for same, what, hint in (
        (
            of == wanted,
            f"this is one of {of} shards, and the first file is one of {wanted}",
            "give the files of one `--shard I/N` with the same N",
        ),
        (
            first.inputs == counts.inputs,
            "this shard is of another base or other options than the first",
            "count it again with the base and the options of the others",
        ),
        (
            (first.corpus, first.captions) == (counts.corpus, counts.captions),
            "this shard is of other captions than the first",
            "give every machine all captions, in one order, and count this shard again",
        ),
    ):
        if not same:
            raise PerfError(what, where=str(path), hint=hint)
