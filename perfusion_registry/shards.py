"""Shards: a part of long work for each of several machines that share no scheduler (`--shard 2/8`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from perfusion_registry.errors import PerfError

Item = TypeVar("Item")
Shard = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
"""The part (i, n), 1 <= i <= n: of what there is to do, every n-th, from the i-th on."""
WHOLE: Shard = (1, 1)


def parse_shard(text: str) -> Shard:
    """`2/8`. Raises PerfError for anything else."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise PerfError(
            f"`{text}` is no shard",
            hint="say which one of how many, from 1 on: --shard 2/8 is the second of 8",
        )
    return int(match[1]), int(match[2])


def idle(shard: Shard, there: str) -> str:
    """What is said of a shard that none of what there is falls to: `3 concepts`. It is no mistake, so that a
    machine too many fails nothing."""
    return f"shard {shard[0]}/{shard[1]} has nothing to do: there are no more than {there}"


def share(items: Sequence[Item], shard: Shard) -> tuple[Item, ...]:
    """The items of one shard, in their order."""
    return tuple(items[shard[0] - 1 :: shard[1]])
