r"""The prompt grammar: text in which a star calls a concept.

    prompt   = { text | escape | call }
    call     = name "*" [ "{" [ option { "," option } ] "}" ]
    option   = "bias" "=" number | "temperature" "=" number | "residual" "=" number
             | "lock" "=" ( "local" | "global" | "none" )
             | "preset" "=" ( "faithful" | "balanced" | "editable" | "together" )
    escape   = "\*" | "\\" | "\{"

`name` is the whole word before the star, a concept name of `recipe.name`. Names are folded: `Teddy*` and
`teddy*` call the same concept, and so do `sun_glasses*` and `sun-glasses*`. A star that no name precedes
(`2*3`, `* * *`) is text, and so is a backslash before anything else. A letter or digit right after a call
(`teddy*s`) is an error, because the text encoder would not read it as one word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, get_args

from pydantic import TypeAdapter, ValidationError

from perfusion_registry.compose.caret import Span, under
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.presets import PRESET_NAMES, PRESETS
from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.recipe.options import Bias, PresetName, Residual, SceneLock, Temperature
from perfusion_registry.suggestions import did_you_mean

KeyLock = SceneLock

LONGEST_PROMPT = 10_000

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_OPTIONS = ("bias", "temperature", "lock", "residual", "preset")
_EXAMPLES = {"bias": ".55", "temperature": ".15", "lock": "global", "residual": ".8", "preset": "faithful"}
_NUMBERS: dict[str, TypeAdapter[float]] = {
    "bias": TypeAdapter(Bias),
    "temperature": TypeAdapter(Temperature),
    "residual": TypeAdapter(Residual),
}


@dataclass(frozen=True)
class Gate:
    """What one place says about a concept's gate; None leaves the value to the next place in line.

    bias, temperature: beta and tau of Eq. 3 and Eq. 4. key_lock: where the concept's keys come from.
    residual: how strongly its residual applies, where it has one. preset: stands for the bias and temperature
    that the same place leaves unset.
    """

    bias: float | None = None
    temperature: float | None = None
    key_lock: KeyLock | None = None
    residual: float | None = None
    preset: PresetName | None = None

    def over(self, other: Gate) -> Gate:
        """Return this gate with its unset values taken from `other`, the next place in line.

        A preset decides bias and temperature, so what later places say of these counts no more.
        """
        if self.preset is not None:
            other = replace(other, bias=None, temperature=None, preset=None)
        return self.beside(other)

    def beside(self, other: Gate) -> Gate:
        """Return this gate with its unset values taken from `other`, of the same place."""
        unset = {key: value for key, value in vars(other).items() if getattr(self, key) is None}
        return replace(self, **unset)

    def settled(self) -> Gate:
        """Return this gate with its preset's numbers instead of its name; a preset needs the key lock."""
        if self.preset is None:
            return self
        preset, lock = PRESETS[self.preset], self.key_lock or "local"
        meant = Gate(bias=preset.bias(lock), temperature=preset.temperature)
        return replace(self, preset=None).beside(meant)


@dataclass(frozen=True)
class Text:
    """Words that go to the text encoder as they are, escapes resolved."""

    text: str
    span: Span = field(default=(0, 0), compare=False)


@dataclass(frozen=True)
class Call:
    """A concept called by name; `span` covers the name, the star and the braces in the source."""

    name: str
    gate: Gate = Gate()
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

    def without_gates(self) -> Prompt:
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
            written.append(f"{piece.name}*{_unparse_gate(piece.gate)}")
        else:
            text = piece.text.replace("\\", "\\\\").replace("*", "\\*")
            written.append("\\" + text if after_call and text.startswith("{") else text)
        after_call = isinstance(piece, Call)
    return "".join(written)


def _unparse_gate(gate: Gate) -> str:
    options = [
        f"{key}={value if isinstance(value, str) else repr(value)}"
        for key, value in (
            ("bias", gate.bias),
            ("temperature", gate.temperature),
            ("lock", gate.key_lock),
            ("residual", gate.residual),
            ("preset", gate.preset),
        )
        if value is not None
    ]
    return "{" + ",".join(options) + "}" if options else ""


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
        gate = self._gate() if self.source[self.at : self.at + 1] == "{" else Gate()
        if self.source[self.at : self.at + 1].isalnum():
            word = re.match(r"[\w-]+", self.source[self.at :])
            glued = word.group() if word else self.source[self.at]
            self._fail(
                f"{glued!r} follows {written}* without a space",
                (start, self.at + len(glued)),
                f"put a space after {written}*, or write {written}\\* for a plain star",
            )
        self.pieces.append(Call(canonical_name(written.lower()), gate, (start, self.at)))
        self.text_start = self.word_start = self.at

    def _gate(self) -> Gate:
        """Parse the braces that open at `self.at`, and move past them."""
        opened = self.at
        closed = self.source.find("}", opened)
        if closed < 0:
            self._fail(
                "this brace is never closed",
                (opened, len(self.source)),
                "write a gate as teddy*{bias=.55,temperature=.15}, or \\{ for a brace that is text",
            )
        gate = Gate()
        start = opened + 1
        inside = self.source[start:closed]
        if inside.strip():
            for option in inside.split(","):
                gate = self._option(option, start, gate)
                start += len(option) + 1
        self.at = closed + 1
        return gate

    def _option(self, option: str, start: int, gate: Gate) -> Gate:
        """Parse one `key=value` that begins at `start` of the source, and add it to `gate`."""
        key, equals, value = option.partition("=")
        key_span = _stripped(key, start)
        value_span = _stripped(value, start + len(key) + len(equals))
        key, value = key.strip(), value.strip()
        if key not in _OPTIONS:
            known = did_you_mean(key, _OPTIONS, f"the options are {', '.join(_OPTIONS)}", form="{}")
            what = f"{key!r} is no option of a gate" if key else "an option of the gate is missing"
            self._fail(what, key_span, known)
        if not equals or not value:
            self._fail(f"{key} has no value", key_span, f"write {key}={_EXAMPLES[key]}")
        if getattr(gate, "key_lock" if key == "lock" else key) is not None:
            self._fail(f"{key} is set twice", key_span, "keep one of them")
        try:
            return replace(gate, **gate_value(key, value))
        except PerfError as error:
            self._fail(error.what, value_span, error.hint or "")

    def _fail(self, what: str, span: Span, hint: str) -> NoReturn:
        raise PerfError(what, where=under(self.source, span), hint=hint)


def gate_value(key: str, value: str) -> dict[str, Any]:
    """Read `value`, written by a person, as the gate option `key`: the fields of `Gate` that it sets.

    key: "bias", "temperature", "lock", "residual" or "preset". Raises PerfError, without a place, when the
    value cannot be that.
    """
    if key == "lock":
        if value not in get_args(KeyLock):
            raise PerfError(f"{value!r} is no key lock", hint="lock is local, global or none")
        return {"key_lock": value}
    if key == "preset":
        if value not in PRESET_NAMES:
            raise PerfError(f"{value!r} is no preset", hint=f"the presets are {', '.join(PRESET_NAMES)}")
        return {"preset": value}
    if not _NUMBER.fullmatch(value):
        raise PerfError(f"{value!r} is not a number", hint=f"for instance {key}={_EXAMPLES[key]}")
    try:
        return {key: _NUMBERS[key].validate_python(float(value))}
    except ValidationError as error:
        limit = error.errors()[0]["msg"].removeprefix("Input ")
        raise PerfError(
            f"a {key} {limit}, not {value}", hint=f"for instance {key}={_EXAMPLES[key]}"
        ) from error


def _in_word(character: str) -> bool:
    return character.isalnum() or character in "-_"


def _stripped(text: str, start: int) -> Span:
    """Return the span of `text`, which begins at `start`, without the white space around it."""
    lead = len(text) - len(text.lstrip())
    return start + lead, start + max(lead, len(text.rstrip()))
