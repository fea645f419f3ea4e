"""What a concept turned out to be: told from its supercategory, obedient, quiet elsewhere, and drawable at
all. Reading a verdict needs no torch, so every name is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazy import lazy_exports

if TYPE_CHECKING:
    from perfusion_registry.verdict.judging import JudgedConcept as JudgedConcept
    from perfusion_registry.verdict.judging import judge_concept as judge_concept
    from perfusion_registry.verdict.judging import judge_pictures as judge_pictures
    from perfusion_registry.verdict.judging import pictures_to_judge as pictures_to_judge
    from perfusion_registry.verdict.judging import words_shown as words_shown
    from perfusion_registry.verdict.sheet import read_sheet as read_sheet
    from perfusion_registry.verdict.sheet import renamed_sheet as renamed_sheet

_HOME = {
    "JudgedConcept": "judging",
    "judge_concept": "judging",
    "judge_pictures": "judging",
    "pictures_to_judge": "judging",
    "read_sheet": "sheet",
    "renamed_sheet": "sheet",
    "words_shown": "judging",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME)
