"""Whether an object has changed since it was last fetched, and when to ask again: dates and tags of HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from perfusion_registry.registries.backoff import LONGEST_RETRY_AFTER

_LONGEST_TAG = 1000


def tag_of(headers: Mapping[str, str], mirror: str) -> str:
    """The tag in the headers of this mirror's answer, for `conditions` next time; "" where there is none.

    A Last-Modified counts only when it was at least two seconds old: it has a resolution of one second.
    """
    etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
    if not (_seconds(headers.get("date", "")) - _seconds(modified) >= 2):
        modified = ""
    if not (etag or modified) or len(etag) + len(modified) > _LONGEST_TAG:
        return ""
    return json.dumps({"at": mirror, "etag": etag, "modified": modified})


def conditions(known_tag: str | None, mirror: str) -> dict[str, str]:
    """The headers of a conditional request, which this mirror answers with 304 if nothing has changed."""
    if not known_tag:
        return {}
    try:
        tag = json.loads(known_tag)
        at, etag, modified = (str(tag[key]) for key in ("at", "etag", "modified"))
    except (ValueError, KeyError, TypeError):
        return {}
    if at != mirror or not (etag + modified).isprintable():
        return {}
    if etag:
        return {"If-None-Match": etag}
    return {"If-Modified-Since": modified} if modified else {}


def retry_after(text: str | None) -> float:
    """The seconds that a Retry-After asks for, at most `LONGEST_RETRY_AFTER`."""
    if not text:
        return 0.0
    wait = (
        float(text) if text.isascii() and text.isdigit() and len(text) < 10 else _seconds(text) - time.time()
    )
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER) if wait == wait else 0.0


def _seconds(date: str) -> float:
    """An HTTP date as seconds since 1970; NaN for what is not one."""
    try:
        return parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return float("nan")
