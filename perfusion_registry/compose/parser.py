"""Reading a prompt, in one pass from left to right; `compose.prompt` says what may be written."""

from __future__ import annotations

import re
from typing import NoReturn

from perfusion_registry.compose.caret import Span, under
from perfusion_registry.compose.pieces import Break, Call, Close, Open, Option, Piece, Prompt, Text, joined
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.name import canonical_name

MOST_WEIGHT = 10
"""What a weight may be at most, below 0 as above; no picture is one beyond 2."""

_NUMBER = re.compile(r":\s*[+-]?(\d+\.?\d*|\.\d+)\s*\Z")
_NO_NUMBER = re.compile(r":\s*([+-]?[.\d]*\.[.\d]*)\s*\Z")
_LONGEST_NUMBER = 24
_BREAK = re.compile(r"BREAK(?![\w-])")
_CLOSED_BY = {")": "(", "]": "["}


class Parser:
    """One pass over `source` from left to right."""

    def __init__(self, source: str, *, plain: bool) -> None:
        """plain: brackets are characters, whatever they hold."""
        self.source = source
        self.plain = plain
        self.escaped = "*\\{" if plain else "*\\{()[]"
        self.at = 0
        self.pieces: list[Piece] = []
        self.text: list[str] = []
        self.text_start = 0
        self.word_start = 0
        # Of brackets that are open: where they are among the pieces, and how many letters and bars, which
        # A1111 has words take turns by, stood before them.
        self.opened: list[tuple[int, int, int]] = []
        self.closed: set[int] = set()
        self.letters = self.bars = 0

    def parse(self) -> Prompt:
        """The prompt. Raises PerfError with a caret under the place of a mistake."""
        source = self.source
        while self.at < len(source):
            character = source[self.at]
            if character == "\\" and source[self.at + 1 : self.at + 2] in tuple(self.escaped):
                self.text.append(source[self.at + 1])
                self.at += 2
                self.word_start = self.at
            elif character == "*" and (written := self._name_before()):
                self._call(written)
            elif self.plain:
                self._character(character)
            elif character in "([":
                self._flush()
                self.opened.append((len(self.pieces), self.letters, self.bars))
                self.pieces.append(Open(character, (self.at, self.at + 1)))
                self.at += 1
                self.text_start = self.at
            elif character in ")]" and self._closes(character):
                self._close(character)
            elif character == "B" and self._breaks():
                self._break()
            else:
                self._character(character)
        self._flush()
        unclosed = (
            Text(piece.bracket, piece.span) if isinstance(piece, Open) and index not in self.closed else piece
            for index, piece in enumerate(self.pieces)
        )
        prompt = Prompt(joined(unclosed), source, self.plain)
        for piece, weight in prompt.said:
            if abs(weight) > MOST_WEIGHT and not isinstance(piece, Break):
                self._fail(
                    f"a weight of {weight:g} is beyond {MOST_WEIGHT}",
                    piece.span,
                    r"most are from 0.5 to 1.5; write \( and \) for plain parentheses",
                )
        return prompt

    def _character(self, character: str) -> None:
        self.letters += character.isalpha()
        self.bars += character == "|"
        self.text.append(character)
        self.at += 1

    def _flush(self) -> None:
        if self.text:
            self.pieces.append(Text("".join(self.text), (self.text_start, self.at)))
        self.text = []
        self.text_start = self.at

    def _closes(self, bracket: str) -> bool:
        """Whether a bracket at `self.at` closes one that gives a weight; `self.opened` then ends with that.

        What holds no letter (`(12:00)`) gives none, nor does what A1111 changes from step to step
        (`[rain:0.5]`, `[cat|dog]`).
        """
        opening = _CLOSED_BY[bracket]
        place = next(
            (
                place
                for place in reversed(range(len(self.opened)))
                if self.pieces[self.opened[place][0]] == Open(opening)
            ),
            None,
        )
        if place is None:
            return False
        _, letters, bars = self.opened[place]
        changes = bracket == "]" and (self.bars > bars or self._number() is not None)
        if self.letters == letters or changes:
            del self.opened[place:]
            return False
        del self.opened[place + 1 :]
        return True

    def _close(self, bracket: str) -> None:
        number = self._number() if bracket == ")" else None
        said = number.group() if number else ""
        meant = _NO_NUMBER.search(self.source[max(self.text_start, self.at - _LONGEST_NUMBER) : self.at])
        if bracket == ")" and number is None and meant:
            span = (self.at - len(meant[0]) + 1, self.at)
            self._fail(f"{meant[1]} is no weight", span, "write a number, as in (word:1.2)")
        del self.text[len(self.text) - len(said) :]
        place, self.at = self.at, self.at - len(said)
        self._flush()
        self.closed.add(self.opened.pop()[0])
        self.pieces.append(Close(bracket, said, (self.at, place + 1)))
        self.at = self.text_start = place + 1

    def _breaks(self) -> bool:
        """Whether the word BREAK stands at `self.at`."""
        before = self.source[self.at - 1 : self.at]
        return _BREAK.match(self.source, self.at) is not None and not (before and _in_word(before))

    def _break(self) -> None:
        """Take the word BREAK at `self.at`, and the white space around it, as a break."""
        text = "".join(self.text)
        space = len(text) - len(text.rstrip())
        del self.text[len(self.text) - space :]
        end = self.at + len("BREAK")
        while self.source[end : end + 1].isspace():
            end += 1
        self.at -= space
        self._flush()
        self.pieces.append(Break(self.source[self.at : end], (self.at, end)))
        self.at = self.text_start = self.word_start = end

    def _number(self) -> re.Match[str] | None:
        """The number, with its colon, that the text before `self.at` ends with; none of a time of day or a
        ratio (`10:30`)."""
        start = max(self.text_start, self.at - _LONGEST_NUMBER)
        found = _NUMBER.search(self.source[start : self.at])
        if found is None:
            return None
        before = self.source[max(self.text_start, start + found.start() - 1) : start + found.start()]
        return None if before.isdigit() and "." not in found[1] else found

    def _name_before(self) -> str:
        """Return the concept name, as written, that ends right before the star at `self.at`; "" for none."""
        start = self.at
        while start > self.word_start and _in_word(self.source[start - 1]):
            start -= 1
        name = self.source[start : self.at].lstrip("-_")
        if not name or name[-1] in "-_" or not any(character.isalpha() for character in name):
            return ""
        try:
            canonical_name(name.lower())
        except PerfError as error:
            self._fail(
                f"{name!r} cannot be a concept's name",
                (self.at - len(name), self.at + 1),
                f"{error.what.removeprefix('invalid concept name: ')}; write \\* for a plain star",
            )
        return name

    def _call(self, written: str) -> None:
        """Turn the word `written`, read as text so far, and what follows its star into a call."""
        start = self.at - len(written)
        del self.text[len(self.text) - len(written) :]
        self.at, star = start, self.at
        self._flush()
        self.at = star + 1
        options = self._braces() if self.source[self.at : self.at + 1] == "{" else ()
        if self.source[self.at : self.at + 1].isalnum():
            word = re.match(r"[\w-]+", self.source[self.at :])
            glued = word.group() if word else self.source[self.at]
            self._fail(
                f"{glued!r} follows {written}* without a space",
                (start, self.at + len(glued)),
                f"put a space after {written}*, or write {written}\\* for a plain star",
            )
        self.pieces.append(Call(canonical_name(written.lower()), options, (start, self.at)))
        self.text_start = self.word_start = self.at

    def _braces(self) -> tuple[Option, ...]:
        """Parse the braces that open at `self.at`, and move past them."""
        opened = self.at
        closed = self.source.find("}", opened)
        if closed < 0:
            self._fail(
                "this brace is never closed",
                (opened, len(self.source)),
                "write options as teddy*{name=value,name=value}, or \\{ for a brace that is text",
            )
        options: dict[str, Option] = {}
        start = opened + 1
        inside = self.source[start:closed]
        if inside.strip():
            for text in inside.split(","):
                option = self._option(text, start)
                if option.key in options:
                    self._fail(f"`{option.key}` is set twice", option.key_span, "keep one of them")
                options[option.key] = option
                start += len(text) + 1
        self.at = closed + 1
        return tuple(options.values())

    def _option(self, option: str, start: int) -> Option:
        """Parse one `key=value` that begins at `start` of the source."""
        key, equals, value = option.partition("=")
        key_span = _stripped(key, start)
        value_span = _stripped(value, start + len(key) + len(equals))
        key, value = key.strip(), value.strip()
        if not key:
            self._fail("an option is missing", key_span, "write options as teddy*{name=value,name=value}")
        if not equals or not value:
            self._fail(f"`{key}` has no value", key_span, f"write {key}=VALUE")
        return Option(key, value, key_span, value_span)

    def _fail(self, what: str, span: Span, hint: str) -> NoReturn:
        raise PerfError(what, where=under(self.source, span), hint=hint)


def _in_word(character: str) -> bool:
    return character.isalnum() or character in "-_"


def _stripped(text: str, start: int) -> Span:
    """Return the span of `text`, which begins at `start`, without the white space around it."""
    lead = len(text) - len(text.lstrip())
    return start + lead, start + max(lead, len(text.rstrip()))
