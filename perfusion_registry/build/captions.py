"""Captions: any number of text, csv, tsv and parquet files, plain or gzipped, as one stream of strings."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from perfusion_registry.errors import PerfError
from perfusion_registry.extras import lacking

OBVIOUS_COLUMNS = ("caption", "text", "prompt")
"""Names, in any case, that are taken for the caption column when none is asked for; the first one wins."""

OnSkip = Callable[[str, str], None]
"""Called with (where, why) for every row that is left out."""


def read_captions(
    paths: Iterable[str | Path], column: str | None = None, on_skip: OnSkip | None = None
) -> Iterator[str]:
    """Yield every caption of `paths` in order, without ever holding a file in memory.

    paths: `.csv`, `.tsv` and `.parquet` tables, anything else as text with one caption a line; each may end
    in `.gz`; `-` is text from standard input. A csv or tsv has a header unless `column` is a number.
    column: the column's name, or its number from 1 in a csv or tsv without a header; None takes the first of
    `OBVIOUS_COLUMNS` that exists. tsv fields are not quoted. Runs of white space become one space; rows
    without a caption are passed over.
    on_skip: told of each unreadable row (not UTF-8, too few fields); without it such a row is an error.
    Raises PerfError, naming file and line.
    """
    for path in paths:
        for where, text in _rows(str(path), column):
            if text is None:
                why = "the row has too few fields"
            elif not _is_unicode(text):
                why = "the line is not valid UTF-8"
            else:
                if caption := " ".join(text.split()):
                    yield caption
                continue
            if on_skip is None:
                raise PerfError(why[0].upper() + why[1:], where=where, hint="mend it, or pass --skip-bad")
            on_skip(where, why)


def _rows(path: str, column: str | None) -> Iterator[tuple[str, str | None]]:
    """(`file:line`, caption or None where the row has none) for each row of one file."""
    if path == "-":
        yield from _lines(sys.stdin.buffer, "<stdin>")
        return
    kind = Path(path.removesuffix(".gz")).suffix.lower()
    try:
        with open(path, "rb") as raw, _decompressed(raw, path) as stream:
            if kind == ".parquet":
                yield from _parquet(stream, path, column)
            elif kind in {".csv", ".tsv"}:
                yield from _table(stream, path, column, tabs=kind == ".tsv")
            else:
                yield from _lines(stream, path)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise PerfError(f"The gzip file is damaged: {error}", where=path) from error
    except OSError as error:
        raise PerfError(f"Cannot read the captions: {error.strerror or error}", where=path) from error


@contextmanager
def _decompressed(raw: IO[bytes], path: str) -> Iterator[IO[bytes]]:
    if path.endswith(".gz"):
        with gzip.GzipFile(fileobj=raw) as stream:
            yield cast(IO[bytes], stream)
    else:
        yield raw


def _text(stream: IO[bytes], path: str) -> io.TextIOWrapper:
    """UTF-8 text in which bytes that are not UTF-8 survive as lone surrogates, for `_is_unicode` to find."""
    buffered = io.BufferedReader(stream)  # type: ignore[type-var]
    if buffered.peek(2)[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise PerfError("The file is UTF-16", where=path, hint=f"iconv -f utf-16 -t utf-8 {path}")
    return io.TextIOWrapper(buffered, "utf-8-sig", errors="surrogateescape", newline="")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text) if not text.isascii() else True


def _lines(stream: IO[bytes], path: str) -> Iterator[tuple[str, str]]:
    text = _text(stream, path)
    for number, line in enumerate(text, 1):
        yield f"{path}:{number}", line


def _table(
    stream: IO[bytes], path: str, column: str | None, *, tabs: bool
) -> Iterator[tuple[str, str | None]]:
    text = _text(stream, path)
    if tabs:
        reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(text, strict=True)
    try:
        if column is not None and column.isdecimal():
            index = int(column) - 1
        else:
            index = _column(next(reader, []), column, f"{path}:1")
        for row in reader:
            if row:
                yield f"{path}:{reader.line_num}", row[index] if 0 <= index < len(row) else None
    except csv.Error as error:
        raise PerfError(f"The table is malformed: {error}", where=f"{path}:{reader.line_num}") from error


def _parquet(stream: IO[bytes], path: str, column: str | None) -> Iterator[tuple[str, str | None]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise lacking(error, "to read Parquet files", path) or error from error
    with tempfile.TemporaryFile() as unpacked:
        source = stream
        if path.endswith(".gz"):  # parquet is read from its end, gzip only from its start
            shutil.copyfileobj(stream, unpacked)
            source = unpacked
        try:
            table = pq.ParquetFile(source)
            schema = table.schema_arrow
            name = schema.names[_column(schema.names, column, path)]
            if not _holds_text(pa, schema.field(name).type):
                raise PerfError(f"Column {name!r} holds {schema.field(name).type}, not text", where=path)
            number = 0
            for batch in table.iter_batches(batch_size=4096, columns=[name]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield f"{path}:{number}", value or ""
        except pa.ArrowException as error:
            raise PerfError(f"The parquet file cannot be read: {error}", where=path) from error


def _holds_text(pa: Any, kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _column(names: list[str], column: str | None, where: str) -> int:
    """The index of the caption column among `names`."""
    if column is not None:
        if column in names:
            return names.index(column)
        wanted = f"There is no column {column!r}"
    else:
        folded = [name.strip().lower() for name in names]
        for obvious in OBVIOUS_COLUMNS:
            if obvious in folded:
                return folded.index(obvious)
        wanted = "No column is obviously the captions"
    listed = ", ".join(name if _is_unicode(name) else ascii(name) for name in names[:12])
    hint = f"pass --column with one of: {listed}" if names else "the file is empty"
    raise PerfError(wanted, where=where, hint=hint)
