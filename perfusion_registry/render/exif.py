"""EXIF for pictures that have no text chunks: a prompt, what other programs read, and perf's own record."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

LARGEST = 65_533 - len(b"Exif\0\0")
"""Bytes of EXIF that a JPEG file can hold: a segment's, less its header."""

OWN = 0xFDE8
"""The tag of a record, 65000: the first of those that TIFF leaves to anyone."""

_DESCRIPTION, _SOFTWARE, _EXIF, _COMMENT = 0x010E, 0x0131, 0x8769, 0x9286
_ASCII, _LONG, _UNDEFINED = 2, 4, 7
_Entry = tuple[int, int, bytes]


def exif_block(key: str, record: str, *, description: str, software: str, comment: str) -> bytes:
    """A whole EXIF block, to follow `Exif\\0\\0`: the same texts give the same bytes.

    key, record: what `own_record` finds, packed by zlib. comment: what A1111 calls parameters, as it writes
    them, in UTF-16.
    """
    own = key.encode() + b"\0" + zlib.compress(record.encode(), 9)
    first = [_text(_DESCRIPTION, description), _text(_SOFTWARE, software), (_EXIF, _LONG, bytes(4))]
    first = [entry for entry in first if entry[2] != b"\0"] + [(OWN, _UNDEFINED, own)]
    start = 8  # of the first directory, behind the header
    second = start + len(_directory(first, start))
    first = [(tag, kind, struct.pack(">L", second) if tag == _EXIF else data) for tag, kind, data in first]
    comments = [(_COMMENT, _UNDEFINED, b"UNICODE\0" + comment.encode("utf-16-be", "surrogatepass"))]
    return b"MM\0*" + struct.pack(">L", start) + _directory(first, start) + _directory(comments, second)


def own_record(value: object, key: str, largest: int) -> str | None:
    """The record in a value of the tag `OWN`; None where it is none of that key, damaged or too long."""
    prefix = key.encode() + b"\0"
    if not isinstance(value, bytes) or not value.startswith(prefix):
        return None
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(value[len(prefix) :], largest)
        return text.decode() if unpacker.eof else None
    except (zlib.error, UnicodeDecodeError):
        return None


def _text(tag: int, text: str) -> _Entry:
    return tag, _ASCII, text.replace("\0", " ").encode("utf-8", "replace") + b"\0"


def _directory(entries: Sequence[_Entry], start: int) -> bytes:
    """A directory at `start`, by rising tags, and the values that do not fit into it behind."""
    head, values = [struct.pack(">H", len(entries))], b""
    behind = start + 2 + 12 * len(entries) + 4
    for tag, kind, data in entries:
        count = 1 if kind == _LONG else len(data)
        if len(data) <= 4:
            field = data.ljust(4, b"\0")
        else:
            field = struct.pack(">L", behind + len(values))
            values += data + b"\0" * (len(data) % 2)
        head.append(struct.pack(">HHL", tag, kind, count) + field)
    return b"".join(head) + bytes(4) + values
