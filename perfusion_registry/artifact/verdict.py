"""What a build found its concept to be good for, as the card has it: judgements, and a sentence of them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from perfusion_registry.recipe.model import FileModel

Rating = Literal["good", "fair", "poor"]
"""What a concept is good for in a word, of the scale by which people rate pictures (ITU-R BT.500). poor: what
it draws is hardly told from its plain word, or its own pictures are not what the base can draw or the word
says. fair: it is told, but places hardly appear or its gate opens elsewhere. good: neither."""

_WRONG = (
    "its pictures are unlike ",
    "its pictures hardly show ",
    "it is hardly told from ",
    "places hardly appear ",
    "its gate opens by ",
)
_WELL = (
    "it is told from ",
    "whether it is told from ",
    "places still appear ",
    "its gate opens at its own word ",
)
_PARTS = re.compile(rf"; (?={'|'.join((*_WRONG, *_WELL))}|\w+ \S+ serves it best\Z)")
"""How the parts of a verdict's sentence begin (`verdict.sentence`)."""


class Judgement(FileModel):
    """Whether a concept passed one test of a verdict, and the number that decided."""

    passed: bool
    value: float


class Verdict(FileModel):
    """What a build found its concept to be good for.

    told: from its supercategory; the share of the way from the plain word's pictures to its own that it goes.
    obeys: the prompt; how far places appear, of how far they do with the plain word. quiet: its gate is shut
    elsewhere; the widest. alike: the base can draw such pictures at all; the error of its denoiser on them.
    shows: its own pictures show its supercategory; of how many that is seen, a share. None: it was not
    measured. sentence: all of it in words, good and bad.
    """

    sentence: Annotated[str, Field(max_length=2000)]
    told: Judgement | None = None
    obeys: Judgement | None = None
    quiet: Judgement | None = None
    alike: Judgement | None = None
    shows: Annotated[Judgement | None, Field(exclude_if=lambda judged: judged is None)] = None

    @property
    def failed(self) -> tuple[str, ...]:
        """The tests that the concept did not pass, by name."""
        tests = {name: getattr(self, name) for name in ("alike", "shows", "told", "obeys", "quiet")}
        return tuple(name for name, judged in tests.items() if judged is not None and not judged.passed)

    @property
    def rating(self) -> Rating | None:
        """All of it in one word; None where nothing failed and nobody could compare pictures."""
        if self.failed:
            return "poor" if set(self.failed) & {"alike", "shows", "told"} else "fair"
        return None if self.told is None else "good"

    @property
    def in_words(self) -> str:
        """The sentence as people are told it, behind its rating. Of a bad verdict that is what is wrong and
        what to do: what went well beside it is no comfort, and reads as if all were well."""
        if self.rating is None:
            return self.sentence
        parts = _PARTS.split(self.sentence) if self.failed else []
        wrong = "; ".join(part for part in parts if _begun(part).startswith(_WRONG))
        return f"{self.rating}: {_begun(wrong or self.sentence)}"

    def renamed(self, name: str, other: str) -> Verdict:
        """The same of a concept that has another name, and the same tensors: what its sentence quotes calls
        it by that."""
        called = re.compile(rf"(?<![\w-]){re.escape(name)}\*")
        return self.model_copy(update={"sentence": called.sub(f"{other}*", self.sentence)})


def _begun(sentence: str) -> str:
    """A sentence that goes on behind a colon."""
    return sentence[:1].lower() + sentence[1:]
