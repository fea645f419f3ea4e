"""Captions as the prompts that pictures are learned under: where each of them says the concept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfusion_registry import amounts
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.calls import CallWords
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.recipe.captions import Caption

if TYPE_CHECKING:
    from perfusion_registry.base import Base

SHOWN = 60
"""Letters at most of what is lost of a caption."""


@dataclass(frozen=True)
class CaptionPrompts:
    """templates: as `{}` marks the concept, each once. rows: of each picture the template's number; None
    where it has none of its own. repeats: how often each is shown. notes: sentences for a person. files: of
    each template the name of a file, or folder, that says it."""

    templates: tuple[str, ...] = ()
    rows: tuple[int | None, ...] = ()
    repeats: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def caption_prompts(
    captions: Sequence[Caption], name: str, supercategory: str, call: str | None
) -> CaptionPrompts:
    """The prompts of pictures. name: of the concept, as prompts call it. call: what a call becomes, where
    that is words.

    The concept is where a caption says `{}`, `name*` or the words of a call; else where it says the
    supercategory; else in front of it.
    """
    templates: dict[str, int] = {}
    rows: list[int | None] = []
    lacking: list[Caption] = []
    files: list[str] = []
    for caption in captions:
        if not caption.says_something:
            rows.append(None)
            continue
        template, said = _template(caption, name, supercategory, call)
        if template not in templates:
            files.append(caption.file)
        rows.append(templates.setdefault(template, len(templates)))
        if not said:
            lacking.append(caption)
    return CaptionPrompts(
        tuple(templates),
        tuple(rows),
        tuple(caption.repeats for caption in captions),
        tuple(_notes(captions, lacking, name, supercategory, call)),
        tuple(files),
    )


def cut_short(base: Base, prompts: CaptionPrompts, supercategory: str, call: CallWords | None) -> str | None:
    """The sentence for captions of which the base's text encoder does not take the end; None where it takes
    all. Raises PerfError for one that would lose the concept."""
    cut = []
    for template, file in zip(prompts.templates, prompts.files, strict=True):
        try:
            (tokens,) = Prompts.of(base, [template], supercategory, call=call).tokens
        except PerfError as error:
            raise PerfError(
                f"this caption cannot be learned: {error.what}",
                where=file,
                hint="shorten it, or say the concept at its front",
            ) from error
        if tokens.dropped:
            cut.append((file, " ".join(tokens.dropped.split())))
    if not cut:
        return None
    file, lost = cut[0]
    shown = lost if len(lost) <= SHOWN else f"{lost[:SHOWN].rstrip()}..."
    return (
        f"the end of {amounts.count(len(cut), 'caption')} is not learned, as the text encoder takes no more "
        f"at once: of `{file}` it is `{shown}`"
    )


def _template(caption: Caption, name: str, supercategory: str, call: str | None) -> tuple[str, bool]:
    """A caption with `{}` in the concept's place, and whether it says the concept."""
    text = caption.text if caption.text is not None else caption.words or ""
    if text.count("{}") == 1:
        return text, True
    text = text.replace("{}", " ")
    for own in (f"{name}*", *([call] if call else [])):
        if (found := _word(own).search(text)) is not None:
            return f"{text[: found.start()]}{{}}{text[found.end() :]}", True
    found = _word(supercategory).search(text)
    if found is None:
        return f"{{}}, {text}", False
    before = text[: found.start()].split()
    if caption.text is None and found.end() == len(text) and len(before) <= 1:
        return "{}", call is None  # "ohwx cat": the folder's own word for it
    return f"{text[: found.start()]}{{}}{text[found.end() :]}", call is None


def _word(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(words)}(?!\w)", re.IGNORECASE)


def _notes(
    captions: Sequence[Caption], lacking: Sequence[Caption], name: str, supercategory: str, call: str | None
) -> list[str]:
    saying = [caption for caption in captions if caption.says_something]
    if not saying:
        return []
    notes = [
        f"{amounts.count(len(saying), 'picture')} of {len(captions)} learned under captions of their own"
    ]
    if lacking:
        called = call or supercategory
        place = f"it stands where they say `{supercategory}`, else in front of them"
        own = "; if they have a word of their own for it, say that as `token` under [train]" if call else ""
        notes.append(
            f"{len(lacking)} of {amounts.count(len(saying), 'caption')} do not say `{called}` "
            f"(`{lacking[0].file}` is one): {place}{own}"
        )
    return notes
