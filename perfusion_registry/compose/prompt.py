r"""The prompt grammar: text in which a star calls a concept, brackets give weights, and BREAK begins a chunk.

    prompt   = { text | escape | call | group | "BREAK" }
    call     = name "*" [ "{" [ option { "," option } ] "}" ]
    option   = key "=" value
    group    = "(" prompt [ ":" number ] ")" | "[" prompt "]"
    escape   = "\*" | "\\" | "\{" | "\(" | "\)" | "\[" | "\]"

`name` is the whole word before the star, a concept name of `recipe.name`. Names are folded: `Teddy*` and
`teddy*` call the same concept, and so do `sun_glasses*` and `sun-glasses*`. A star that no name precedes
(`2*3`, `* * *`) is text, and so is a backslash before anything else. A letter or digit right after a call
(`teddy*s`) is an error, because the text encoder would not read it as one word. Which options there are and
what their values may be is for the method of the called concept to say (`braces`): the grammar knows none.

Groups are A1111's: `(word)` has a weight of 1.1, `(word:1.2)` of 1.2, `[word]` of 1/1.1, and groups in groups
multiply. Brackets are text where no weight is meant: where they are not in pairs (`:)`), hold no letter
(`(12:00)`, `^_^` in any), or hold what A1111 changes from step to step (`[rain:0.5]`, `[cat|dog]`). A whole
number behind a digit (`10:30`) is a time or a ratio. BREAK is a word of its own in capitals: what follows it
is read in the next chunk (`base.tokens`).
"""

from __future__ import annotations

from collections.abc import Mapping

from perfusion_registry.compose.caret import under
from perfusion_registry.compose.parser import Parser
from perfusion_registry.compose.pieces import Break, Close, Option
from perfusion_registry.compose.pieces import Call as Call
from perfusion_registry.compose.pieces import Piece as Piece
from perfusion_registry.compose.pieces import Prompt as Prompt
from perfusion_registry.compose.pieces import Text as Text
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.settings import Settings, Value

LONGEST_PROMPT = 10_000
_BRACKETS = "()[]"


def parse_prompt(source: str, *, plain: bool = False) -> Prompt:
    """Parse a prompt; raises `PerfError` with a caret under the place of the mistake.

    plain: without groups, escapes of brackets and breaks, which all are text, and cut where it is too long
    (`tokenised`), as prompts were read before there were weights: compositions and pictures of that time keep
    what they meant.
    """
    if len(source) > LONGEST_PROMPT:
        raise PerfError(
            f"the prompt has {len(source):,} characters, more than any picture shows",
            hint=f"keep it under {LONGEST_PROMPT:,} characters",
        )
    return Parser(source, plain=plain).parse()


def unparse(prompt: Prompt) -> str:
    """Write a prompt in canonical form, so that `parse_prompt(unparse(p)) == p`; brackets that are text stay
    as they are wherever they can, and are escaped otherwise."""
    written = _written(prompt, "")
    if prompt.plain or not any(bracket in written for bracket in _BRACKETS):
        return written
    try:
        if parse_prompt(written) == prompt:
            return written
    except PerfError:  # beyond the greatest weight: they were no weights
        pass
    return _written(prompt, _BRACKETS)


def reads_as_before(prompt: Prompt) -> bool:
    """Whether a prompt, as it is written, means the same to a perf that knows no weights."""
    return parse_prompt(unparse(prompt), plain=True) == prompt


def _written(prompt: Prompt, escaped: str) -> str:
    """escaped: which brackets are, where they are text."""
    written: list[str] = []
    after_call = False
    for piece in prompt.pieces:
        if isinstance(piece, Call):
            options = ",".join(f"{option.key}={option.value}" for option in piece.options)
            written.append(f"{piece.name}*{{{options}}}" if options else f"{piece.name}*")
        elif isinstance(piece, Text):
            text = piece.text.replace("\\", "\\\\").replace("*", "\\*")
            for bracket in escaped:
                text = text.replace(bracket, f"\\{bracket}")
            written.append("\\" + text if after_call and text.startswith("{") else text)
        elif isinstance(piece, Break):
            written.append(piece.said)
        else:
            written.append(piece.said + piece.bracket if isinstance(piece, Close) else piece.bracket)
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
