"""Captions as the prompts that pictures are learned under: where each of them says the concept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from perfusion_registry import amounts
from perfusion_registry.recipe.captions import Caption


@dataclass(frozen=True)
class CaptionPrompts:
    """templates: as `{}` marks the concept, each once. rows: of each picture the template's number; None
    where it has none of its own. repeats: how often each is shown. notes: sentences for a person."""

    templates: tuple[str, ...]
    rows: tuple[int | None, ...]
    repeats: tuple[int, ...]
    notes: tuple[str, ...]


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
    for caption in captions:
        if not caption.says_something:
            rows.append(None)
            continue
        template, said = _template(caption, name, supercategory, call)
        rows.append(templates.setdefault(template, len(templates)))
        if not said:
            lacking.append(caption)
    return CaptionPrompts(
        tuple(templates),
        tuple(rows),
        tuple(caption.repeats for caption in captions),
        tuple(_notes(captions, lacking, name, supercategory, call)),
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
