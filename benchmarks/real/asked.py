"""What a comparison is asked for: its prompts and files, and whether its folder has results of the same."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.real.subjects import Subject
from perfusion_registry.errors import PerfError

PROMPTS = (
    "a photo of a {}",
    "a {} in the snow",
    "a {} on the beach",
    "a {} in a jungle",
    "a {} on a table, with a city behind it",
    "a {} in a garden at night",
    "an oil painting of a {}",
    "a {} wearing a red hat",
)
"""None of them is one by which a build chooses its step."""
DECIDES = ("base", "covariance", "captions", "clip", "steps", "guidance", "train_steps", "device", "dtype")
"""Options that the results in a folder depend on, beside prompts, subjects and the scripts' arguments. Of
another number of seeds the missing pictures are drawn, and another DINO scores once more."""


def templates_of(asked: Any) -> tuple[str, ...]:
    """The prompts, each with {} for the subject. Raises PerfError for a file that is none of prompts."""
    if asked.prompts is None:
        return PROMPTS
    try:
        text = asked.prompts.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PerfError(f"the prompts cannot be read: {error}", where=str(asked.prompts)) from error
    lines = [line.strip() for line in text.splitlines()]
    templates = tuple(line for line in lines if line)
    if not templates:
        raise PerfError(
            "it has no prompts", where=str(asked.prompts), hint="write one a line: a photo of a {}"
        )
    if wrong := [line for line in templates if line.count("{}") != 1]:
        what = f"a prompt has one {{}}, where the subject goes: {wrong[0]!r}"
        raise PerfError(what, where=str(asked.prompts))
    return templates


def files_of(asked: Any) -> None:
    """Raise PerfError where something that is read only later is not there."""
    kinds = {
        "captions": "file",
        "covariance": "file",
        "clip": "folder",
        "dino": "folder",
        "diffusers_examples": "folder",
    }
    for name, kind in kinds.items():
        path = getattr(asked, name)
        if path is not None and not (path.is_file() if kind == "file" else path.is_dir()):
            raise PerfError(
                f"--{name.replace('_', '-')} names no {kind}", where=str(path), hint="look at its name"
            )


def words_of(asked: Any) -> list[str]:
    """What scripts are told behind their own arguments. Raises PerfError where a quote has no end."""
    try:
        return shlex.split(asked.script_arguments)
    except ValueError as error:
        what = f"these are no arguments: {str(error).lower()}"
        raise PerfError(what, where=f"--script-arguments {asked.script_arguments}") from error


def compute_of(asked: Any) -> dict[str, str]:
    told = {"device": asked.device, "dtype": asked.dtype}
    return {key: value for key, value in told.items() if value is not None}


def require_the_same(
    path: Path, asked: Any, subjects: Sequence[Subject], templates: Sequence[str]
) -> dict[str, str]:
    """What is to be written into `path` when all is known to go. Raises PerfError where a folder holds the
    results of another command.

    Scripts and subjects may be added. What scripts are told counts once one came to its end.
    """
    said = {f"--{key.replace('_', '-')}": str(getattr(asked, key)) for key in DECIDES}
    said["--prompts"] = " | ".join(templates)
    if asked.diffusers_examples is not None:
        said["--script-arguments"] = repr(asked.script_arguments)
    said |= {f"the subject {one.name}": f"another ({_digest(one)})" for one in subjects}
    before: dict[str, str] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if all(done.parent.name == "perf" for done in path.parent.glob("runs/*/*.json")):
        before.pop("--script-arguments", None)
    if changed := [key for key in said if before.get(key, said[key]) != said[key]]:
        told = ", ".join(f"{key} was {before[key]}" for key in changed)
        what = f"this folder holds results of another command: {told}"
        raise PerfError(what, where=str(path.parent), hint="take another --out")
    return before | said


def _digest(subject: Subject) -> str:
    """Of its word and its pictures, in their order."""
    every = [subject.word.encode(), *(picture.read_bytes() for picture in subject.pictures)]
    return hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in every)).hexdigest()[:12]
