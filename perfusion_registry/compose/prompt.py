r"""The prompt grammar: text in which a star calls a concept.

    prompt   = { text | escape | call }
    call     = name "*" [ "{" [ option { "," option } ] "}" ]
    option   = key "=" value
    escape   = "\*" | "\\" | "\{"

`name` is the whole word before the star, a concept name of `recipe.name`. Names are folded: `Teddy*` and
`teddy*` call the same concept, and so do `sun_glasses*` and `sun-glasses*`. A star that no name precedes
(`2*3`, `* * *`) is text, and so is a backslash before anything else. A letter or digit right after a call
(`teddy*s`) is an error, because the text encoder would not read it as one word. Which options there are and
what their values may be is for the method of the called concept to say (`braces`): the grammar knows none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from perfusion_registry.compose.caret import Span, under
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.settings import Settings, Value
from perfusion_registry.recipe.name import canonical_name

LONGEST_PROMPT = 10_000


@dataclass(frozen=True)
class Option:
    """One `key=value` in the braces of a call, as it is written; spans are in the source."""

    key: str
    value: str
    key_span: Span = field(default=(0, 0), compare=False)
    value_span: Span = field(default=(0, 0), compare=False)


@dataclass(frozen=True)
class Text:
    """Words that go to the text encoder as they are, escapes resolved."""

    text: str
    span: Span = field(default=(0, 0), compare=False)


@dataclass(frozen=True)
class Call:
    """A concept called by name; `span` covers the name, the star and the braces in the source."""

    name: str
    options: tuple[Option, ...] = ()
    span: Span = field(default=(0, 0), compare=False)


Piece = Text | Call


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt. `source` is what was written; two prompts with equal pieces are equal."""

    pieces: tuple[Piece, ...]
    source: str = field(default="", compare=False)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call, in the order written; a concept that is called twice is here twice."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Call))

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts called, each once, in the order of their first call."""
        return tuple(dict.fromkeys(call.name for call in self.calls))

    def without_options(self) -> Prompt:
        """Return the same prompt with every call reduced to its name."""
        pieces = tuple(Call(p.name, span=p.span) if isinstance(p, Call) else p for p in self.pieces)
        return Prompt(pieces, self.source)

    def spoken(self, words: dict[str, str]) -> str:
        """Return the plain text with each call replaced by `words[name]` (its supercategory, say)."""
        return "".join(p.text if isinstance(p, Text) else words[p.name] for p in self.pieces)


def parse_prompt(source: str) -> Prompt:
    """Parse a prompt; raises `PerfError` with a caret under the place of the mistake."""
    if len(source) > LONGEST_PROMPT:
        raise PerfError(
            f"the prompt has {len(source):,} characters; no text encoder reads so many",
            hint=f"keep it under {LONGEST_PROMPT:,} characters",
        )
    return _Parser(source).parse()


def unparse(prompt: Prompt) -> str:
    """Write a prompt in canonical form, so that `parse_prompt(unparse(p)) == p`."""
    written: list[str] = []
    after_call = False
    for piece in prompt.pieces:
        if isinstance(piece, Call):
            options = ",".join(f"{option.key}={option.value}" for option in piece.options)
            written.append(f"{piece.name}*{{{options}}}" if options else f"{piece.name}*")
        else:
            text = piece.text.replace("\\", "\\\\").replace("*", "\\*")
            written.append("\\" + text if after_call and text.startswith("{") else text)
        after_call = isinstance(piece, Call)
    return "".join(written)


def options_of(settings: Mapping[str, Value]) -> tuple[Option, ...]:
    """Values by the keys of their settings, as options in braces."""
    return tuple(
        Option(key, value if isinstance(value, str) else repr(value)) for key, value in settings.items()
    )


def braces(prompt: Prompt, name: str, method: Method) -> Settings:
    """What the braces of all calls of one concept set together: a concept is drawn in one way in a prompt.

    Raises PerfError, with a caret under it, for what cannot be set for a concept of the method, and for two
    values of one setting.
    """
    values: dict[str, Value] = {}
    for call in prompt.calls:
        if call.name != name:
            continue
        for option in call.options:
            place = option.key_span
            try:
                setting = method.setting(option.key, name)
                place = option.value_span
                value = setting.read(option.value)
            except PerfError as error:
                raise PerfError(error.what, where=under(prompt.source, place), hint=error.hint) from error
            before = values.setdefault(setting.field, value)
            if before != value:
                raise PerfError(
                    f"{name!r} is called with two values of {option.key}, {before} and {value}",
                    where=under(prompt.source, call.span),
                    hint="set it at one of its calls: it is drawn in one way in a prompt",
                )
    return values


class _Parser:
    """One pass over `source` from left to right."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.pieces: list[Piece] = []
        self.text: list[str] = []
        self.text_start = 0
        self.word_start = 0

    def parse(self) -> Prompt:
        source = self.source
        while self.at < len(source):
            character = source[self.at]
            if character == "\\" and source[self.at + 1 : self.at + 2] in ("*", "\\", "{"):
                self.text.append(source[self.at + 1])
                self.at += 2
                self.word_start = self.at
            elif character == "*" and (written := self._name_before()):
                self._call(written)
            else:
                self.text.append(character)
                self.at += 1
        self._flush()
        return Prompt(tuple(self.pieces), source)

    def _flush(self) -> None:
        if self.text:
            self.pieces.append(Text("".join(self.text), (self.text_start, self.at)))
        self.text = []
        self.text_start = self.at

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
                    self._fail(f"{option.key} is set twice", option.key_span, "keep one of them")
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
            self._fail(f"{key} has no value", key_span, f"write {key}=VALUE")
        return Option(key, value, key_span, value_span)

    def _fail(self, what: str, span: Span, hint: str) -> NoReturn:
        raise PerfError(what, where=under(self.source, span), hint=hint)


def _in_word(character: str) -> bool:
    return character.isalnum() or character in "-_"


def _stripped(text: str, start: int) -> Span:
    """Return the span of `text`, which begins at `start`, without the white space around it."""
    lead = len(text) - len(text.lstrip())
    return start + lead, start + max(lead, len(text.rstrip()))
