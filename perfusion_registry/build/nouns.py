"""Nouns to choose a supercategory from: a list of one's own, or WordNet's where it is on this machine."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.document import read_text

_INDEX = "index.noun"
_CORPORA = ("wordnet", "wordnet31", "wordnet2021", "wordnet2022")


def read_words(path: Path) -> list[str]:
    """The words of a file, one on each line, each once; `#` begins a comment.

    Raises PerfError for a file that cannot be read, holds none, or holds what cannot be a supercategory.
    """
    words: dict[str, None] = {}
    for number, line in enumerate(read_text(path, "list of words").split("\n"), start=1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        if len(word) > 64 or not word.isprintable() or any(mark in word for mark in "*{}\\"):
            shown = word if len(word) <= 40 else word[:37] + "..."
            raise PerfError(
                f"{shown!r} cannot be a supercategory", where=f"{path}:{number}", hint="write one word a line"
            )
        words.setdefault(word)
    if not words:
        raise PerfError("the list holds no words", where=str(path), hint="write one word a line")
    return list(words)


def wordnet_nouns(folders: Iterable[Path] | None = None) -> list[str] | None:
    """WordNet's nouns, names of individuals (Paris, Bach) left out; None where no folder has them.

    folders: where to look, by default where NLTK keeps its data and Debian its WordNet. The corpus is read as
    it lies there, unpacked or not: neither NLTK nor a network is needed. Raises PerfError when it is damaged.
    """
    for folder in _folders() if folders is None else folders:
        for place in (folder, *(folder / "corpora" / corpus for corpus in _CORPORA)):
            index, packed = place / _INDEX, place.with_name(place.name + ".zip")
            try:
                if index.is_file():
                    return _nouns(index.read_text(encoding="utf-8"))
                if place != folder and packed.is_file():
                    with zipfile.ZipFile(packed) as corpus:
                        return _nouns(corpus.read(f"{place.name}/{_INDEX}").decode())
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                where = str(index if index.is_file() else packed)
                raise PerfError("WordNet cannot be read", where=where, hint="install it again") from error
    return None


def _folders() -> list[Path]:
    """The folders in which NLTK looks for its data, in its order, and that of Debian's WordNet."""
    named = [Path(path) for path in os.environ.get("NLTK_DATA", "").split(os.pathsep) if path]
    prefixes = [Path(sys.prefix, *below) for below in ((), ("share",), ("lib",))]
    system = [Path(path) for path in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib")]
    usual = [path / "nltk_data" for path in (Path(os.path.expanduser("~")), *prefixes, *system)]
    return [*named, *usual, Path("/usr/share/wordnet")]


def _nouns(index: str) -> list[str]:
    """The lemmas of `index.noun`: `lemma n senses pointers symbol... `, below a licence in indented lines."""
    nouns = []
    for line in index.split("\n"):
        if not line or line.startswith(" "):
            continue
        lemma, _, _, pointers, *rest = line.split(" ")
        symbols = rest[: int(pointers)]
        if "@i" in symbols and "@" not in symbols:  # an instance of something, and a kind of nothing
            continue
        nouns.append(lemma.replace("_", " "))
    return nouns
