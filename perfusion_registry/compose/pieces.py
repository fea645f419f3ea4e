"""What a prompt is made of: text, calls of concepts, brackets that give weights to what they hold, breaks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from perfusion_registry.compose.caret import Span

ROUND_WEIGHT = 1.1
"""What `(word)` multiplies by, and `[word]` divides by, as A1111 has it."""


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


@dataclass(frozen=True)
class Open:
    """A bracket, `(` or `[`: what stands between it and its `Close` is weighted."""

    bracket: str
    span: Span = field(default=(0, 0), compare=False)


@dataclass(frozen=True)
class Close:
    """A bracket that closes. said: what stands before it, `:1.2`; "" where it says no number."""

    bracket: str
    said: str = ""
    span: Span = field(default=(0, 0), compare=False)

    @property
    def weight(self) -> float:
        """What the weights of all that it closes are multiplied by."""
        if self.said:
            return float(self.said.removeprefix(":"))
        return ROUND_WEIGHT if self.bracket == ")" else 1 / ROUND_WEIGHT


@dataclass(frozen=True)
class Break:
    """The word BREAK, `said` with the white space around it: what follows begins a chunk."""

    said: str
    span: Span = field(default=(0, 0), compare=False)


Piece = Text | Call | Open | Close | Break
Said = Text | Call | Break
"""What the text encoder reads something of, or stops at."""


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt. `source` is what was written; two prompts with equal pieces are equal.

    plain: read as all prompts were before there were weights (`parse_prompt`).
    """

    pieces: tuple[Piece, ...]
    source: str = field(default="", compare=False)
    plain: bool = field(default=False, compare=False)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call, in the order written; a concept that is called twice is here twice."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Call))

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts called, each once, in the order of their first call."""
        return tuple(dict.fromkeys(call.name for call in self.calls))

    @cached_property
    def said(self) -> tuple[tuple[Said, float], ...]:
        """What the text encoder reads, in order, each with its weight: the product of those of the brackets
        around it, 1 where there is none."""
        factors: dict[int, float] = {}
        opened: list[int] = []
        for index, piece in enumerate(self.pieces):
            if isinstance(piece, Open):
                opened.append(index)
            elif isinstance(piece, Close):
                factors[opened.pop()] = piece.weight
        weights, said = [1.0], []
        for index, piece in enumerate(self.pieces):
            if isinstance(piece, Open):
                weights.append(weights[-1] * factors[index])
            elif isinstance(piece, Close):
                weights.pop()
            else:
                said.append((piece, weights[-1]))
        return tuple(said)

    @property
    def weighted(self) -> bool:
        """Whether anything in it has another weight than 1."""
        return any(weight != 1 for piece, weight in self.said if not isinstance(piece, Break))

    @property
    def broken(self) -> bool:
        """Whether it has a BREAK."""
        return any(isinstance(piece, Break) for piece in self.pieces)

    def without_options(self) -> Prompt:
        """Return the same prompt with every call reduced to its name."""
        pieces = tuple(Call(p.name, span=p.span) if isinstance(p, Call) else p for p in self.pieces)
        return Prompt(pieces, self.source, self.plain)

    def with_words(self, words: dict[str, str]) -> Prompt:
        """Return the same prompt with each call replaced by `words[name]` (its supercategory, say)."""
        pieces = (Text(words[p.name], p.span) if isinstance(p, Call) else p for p in self.pieces)
        return Prompt(joined(pieces), self.source, self.plain)

    def spoken(self, words: dict[str, str]) -> str:
        """Return the text alone, without weights and breaks, with each call replaced by `words[name]`."""

        def text(piece: Said) -> str:
            if isinstance(piece, Break):
                return " "
            return piece.text if isinstance(piece, Text) else words[piece.name]

        return "".join(text(piece) for piece, _ in self.said)


def joined(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The same pieces, with texts side by side as one."""
    together: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Text) and together and isinstance(last := together[-1], Text):
            together[-1] = Text(last.text + piece.text, (last.span[0], piece.span[1]))
        else:
            together.append(piece)
    return tuple(together)
