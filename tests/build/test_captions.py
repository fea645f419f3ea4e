"""Captions: every format gives the same stream, and every mishap names its file and line."""

import gzip
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perfusion_registry.build.captions import read_captions
from perfusion_registry.errors import PerfError

CAPTIONS = ["A teddy in the snow", "ein Bär, groß", 'a "quoted" pot', "日本の茶瓶"]


def _write(folder: Path, name: str) -> Path:
    path = folder / name
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    if kind == "txt":
        data = "\n\n".join(CAPTIONS).encode()
    elif kind == "csv":
        quoted = "\n".join('7,"' + text.replace('"', '""') + '"' for text in CAPTIONS)
        data = f"id,TEXT\n{quoted}\n".encode()
    elif kind == "tsv":
        data = ("caption\turl\n" + "".join(f"{text}\thttp\n" for text in CAPTIONS)).encode()
    else:
        plain = folder / "plain.parquet"
        pq.write_table(pa.table({"id": [1] * len(CAPTIONS), "Prompt": CAPTIONS}), plain)
        data = plain.read_bytes()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_format_gives_the_same_captions(tmp_path: Path, kind: str, suffix: str) -> None:
    path = _write(tmp_path, f"captions.{kind}{suffix}")
    assert list(read_captions([path])) == CAPTIONS


def test_files_follow_one_another_and_white_space_is_folded(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.CSV"
    first.write_bytes(b"\xef\xbb\xbf a \t cat\r\n\r\nno end")
    second.write_text('prompt,caption\nwrong,"two\nlines"\nwrong,\n')
    assert list(read_captions([first, second])) == ["a cat", "no end", "two lines"]


def test_a_number_picks_a_column_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "cc3m.tsv"
    path.write_text('"a cat"\thttp\na dog\thttp\n')
    assert list(read_captions([path], "1")) == ['"a cat"', "a dog"]


def test_standard_input() -> None:
    code = "from perfusion_registry.build.captions import read_captions as r; print(list(r(['-'])))"
    done = subprocess.run([sys.executable, "-c", code], input=b"a\nb c\n", capture_output=True, check=True)
    assert done.stdout.strip() == b"['a', 'b c']"


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"fine\n" * 100_000 + b"\xff\n")
    stream = read_captions([path])
    assert [next(stream) for _ in range(3)] == ["fine"] * 3


MISHAPS = {
    "bad encoding": ("a.txt", b"fine\nb\xe4d\n", None, "UTF-8", "a.txt:2"),
    "bad encoding in a table": ("a.csv", b"caption\nb\xe4d\n", None, "UTF-8", "a.csv:2"),
    "utf-16": ("a.txt", "text".encode("utf-16"), None, "UTF-16", "a.txt"),
    "short row": ("a.csv", b"id,caption\n1,a\n2\n", None, "too few fields", "a.csv:3"),
    "unbalanced quote": ("a.csv", b'caption\na\n"b\n', None, "malformed", "a.csv:3"),
    "no such column": ("a.csv", b"caption,url\na,b\n", "title", "no column 'title'", "a.csv:1"),
    "no obvious column": ("a.csv", b"alt,url\na,b\n", None, "obviously", "a.csv:1"),
    "empty table": ("a.csv", b"", None, "obviously", "a.csv:1"),
    "not gzip": ("a.txt.gz", b"plain", None, "gzip", "a.txt.gz"),
    "cut gzip": ("a.txt.gz", gzip.compress(b"text\n" * 9999)[:-20], None, "gzip", "a.txt.gz"),
    "not parquet": ("a.parquet", b"PAR1 or not", None, "parquet", "a.parquet"),
    "missing": ("missing/a.txt", None, None, "No such file", "a.txt"),
}


@pytest.mark.parametrize("case", MISHAPS)
def test_mishaps_name_the_place(tmp_path: Path, case: str) -> None:
    name, data, column, what, where = MISHAPS[case]
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PerfError) as caught:
        list(read_captions([path], column))
    assert what in caught.value.what
    assert (caught.value.where or "").endswith(where)


def test_a_numeric_column_of_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.parquet"
    pq.write_table(pa.table({"caption": [1, 2]}), path)
    with pytest.raises(PerfError, match="int64, not text"):
        list(read_captions([path]))


def test_bad_rows_are_skipped_and_told_when_asked(tmp_path: Path) -> None:
    text, table = tmp_path / "a.txt", tmp_path / "a.csv"
    text.write_bytes(b"fine\nb\xe4d\nalso fine\n")
    table.write_bytes(b"id,caption\n1\n2,third\n")
    skipped: list[str] = []
    stream = read_captions([text, table], on_skip=lambda where, why: skipped.append(where))
    assert list(stream) == ["fine", "also fine", "third"]
    assert [Path(where).name for where in skipped] == ["a.txt:2", "a.csv:2"]
