"""What other tools have people write in prompts, and what it is here: words, as is said before drawing.

Nothing here changes a prompt; a person may mean the words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from perfusion_registry.compose.pieces import Prompt, Text
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.table import shipped_settings
from perfusion_registry.recipe.name import canonical_name

_BRACES = re.compile(r"\{\s*([\w-]+)\s*=[^{}]*\}")
_EXTRA_NETWORK = re.compile(r"<(lora|lyco|hypernet|embedding):([^:<>]+)[^<>]*>|\bembedding:([\w-]+)")
_CHANGING = re.compile(r"\[(?=[^()\[\]]*[^\W\d])(?:[^()\[\]]*:\s*\d*\.?\d+\s*|[^()\[\]]*\|[^()\[\]]*)\]")
_UNCLOSED = re.compile(r"[(\[](?=[^\W\d])([\w-]+)[^()\[\]]*\Z")
_WILDCARD = re.compile(r"__\w[\w/-]*?__|\{[^{}=|]*\|[^{}=]*\}")
_OPTION = re.compile(r"(?<!\S)--[a-z][\w-]*(?:[ =][\w.:,]*\d[\w.:,]*)?")
_BARE_WEIGHT = re.compile(
    r"(?<![\w(\[<:])([^\W\d][\w-]+\*?)(?:::(?=\d*\.?\d)|:(?=\d*\.\d))([\d.]++)(?![\w:)\]>])"
)
_KEYWORD = re.compile(r"(?<![\w-])(AND|ADDCOMM|ADDROW|ADDCOL)(?![\w-])")
_STARS = "\N{FULLWIDTH ASTERISK}\N{ASTERISK OPERATOR}\N{LOW ASTERISK}\N{HEAVY ASTERISK}\N{BLACK STAR}"
_STAR = re.compile(rf"([\w-]+)(\s+\*|\s*[{_STARS}])")
_MEANT = re.compile(r"\\\*")
_WORD = re.compile(rf"(?:{_EXTRA_NETWORK.pattern})|(?P<word>[\w-]+)")
"""A word, or what other tools call a file by, which is told by itself."""


def habits(prompt: Prompt, known: Collection[str]) -> Iterator[str]:
    """What of a prompt is read as words and may have been meant as more, a sentence each, once.

    known: the names of the concepts that the prompt might call.
    """
    called = set(prompt.names)
    texts = [_unescaped(prompt, piece) for piece in prompt.pieces if isinstance(piece, Text)]
    said = [habit for text in texts for habit in _within(text, set(known))]
    starless = _without_stars(prompt, texts, set(known) - called)
    yield from dict.fromkeys((*said, *starless, *_brackets(prompt), *_one_text(prompt.source)))


def untold(prompt: Prompt) -> list[str]:
    """The words of a prompt, piece by piece, without those that a habit is told of by: names of files and
    options that other tools read."""

    def without(match: re.Match[str]) -> str:
        return " " if match["word"] is None else match[0]

    texts = (prompt.source[slice(*piece.span)] for piece in prompt.pieces if isinstance(piece, Text))
    read = []
    for text in texts:
        for pattern in (_WILDCARD, _OPTION, _KEYWORD):
            text = pattern.sub(" ", text)
        text = _BRACES.sub(lambda match: " " if match[1] in shipped_settings() else match[0], text)
        read.append(_WORD.sub(without, text))
    return read


def _unescaped(prompt: Prompt, piece: Text) -> str:
    """The words of a text, without the stars that are meant as such, as `\\*` says."""
    if "*" not in piece.text:
        return piece.text
    written = _MEANT.sub("", prompt.source[slice(*piece.span)])
    return re.sub(r"\\(.)", r"\1", written)


def _within(text: str, known: Collection[str]) -> Iterator[str]:
    for match in _BRACES.finditer(text):
        if match[1] in shipped_settings():
            yield f"{match[0]} is read as words: the braces of a concept follow the star, teddy*{match[0]}"
            break
    for match in _EXTRA_NETWORK.finditer(text):
        name = _name(match[2] or match[3])
        how = f"leave it out, and call the concept with a star, {name}*"
        if name not in known:
            how = f"no concept is called {match[2] or match[3]} here; `perf import FILE` makes one of a file"
        yield f"{match[0]} is read as words: {how}"
    for match in _KEYWORD.finditer(text):
        yield f"{match[1]} is read as a word: a prompt is one text here, which the text encoder reads at once"
    others = text
    for name, star in _starred(text, known).items():
        yield f"{star.strip()} is read as words: a plain star right behind the name calls it, {name}*"
        others = others.replace(star, "")
    if known and "*" in others:
        call = f"{min(known)}* calls a concept"
        yield f"a star that follows no name is read as a character: {call}, and \\* is a plain star"


def _starred(text: str, known: Collection[str]) -> dict[str, str]:
    """The concepts whose names have a star that calls nothing, and how each is written."""
    return {_name(match[1]): match[0] for match in _STAR.finditer(text) if _name(match[1]) in known}


def _without_stars(prompt: Prompt, texts: Sequence[str], missed: Collection[str]) -> Iterator[str]:
    """One sentence for all names of concepts that have no star, with the prompt as it would call them."""
    words = (_name(match["word"] or "") for text in texts for match in _WORD.finditer(text))
    starred = {name for text in texts for name in _starred(text, missed)}
    named = [name for name in dict.fromkeys(words) if name in missed and name not in starred]
    if named:
        plain = "is the plain word" if len(named) == 1 else "are the plain words"
        concepts = "the concept" if len(named) == 1 else "the concepts"
        written = _with_stars(prompt, named)
        yield f"{' and '.join(named)} without a star {plain}; this calls {concepts}: {written}"


def _with_stars(prompt: Prompt, names: Collection[str]) -> str:
    """A prompt as it was written, with a star behind the first of each of these names, and without what other
    tools call files by."""
    left, written, end = set(names), [], 0

    def called(match: re.Match[str]) -> str:
        if match["word"] is None:  # of another tool, and told by itself
            return ""
        name = _name(match["word"])
        if name not in left:
            return match[0]
        left.discard(name)
        return f"{match[0]}*"

    for piece in prompt.pieces:
        if isinstance(piece, Text):
            start, stop = piece.span
            written += [prompt.source[end:start], _WORD.sub(called, prompt.source[start:stop])]
            end = stop
    return re.sub(r"(?<=\s)\s+", "", "".join([*written, prompt.source[end:]])).strip()


def _brackets(prompt: Prompt) -> Iterator[str]:
    """`[rain:0.5]` and `[cat|dog]`, also around calls, and a bracket that is never closed."""
    if match := _CHANGING.search(prompt.source):
        yield (
            f"{match[0]} is read as it stands: a prompt is the same in every step here; "
            "(rain:0.5) gives a weight"
        )
        return
    for piece in prompt.pieces:
        if isinstance(piece, Text) and (match := _UNCLOSED.search(piece.text)):
            yield f"{match[0][0]} before {match[1]} is a character: nothing closes it"


def _one_text(source: str) -> Iterator[str]:
    """`__animal__` and `{red|blue}`, `--ar 16:9`, and `rain:1.2` without parentheses."""
    for match in _WILDCARD.finditer(source):
        yield f"{match[0]} is read as it stands: a prompt is one text here; --prompts FILE draws a list"
    for match in _OPTION.finditer(source):
        yield f"{match[0]} is read as words: options stand outside of the prompt (`perf render --help`)"
    for match in _BARE_WEIGHT.finditer(source):
        yield f"{match[0]} is read as words: a weight stands in parentheses, ({match[1]}:{match[2]})"


def _name(word: str, otherwise: str = "") -> str:
    try:
        return canonical_name(word.strip().lower())
    except PerfError:
        return otherwise
