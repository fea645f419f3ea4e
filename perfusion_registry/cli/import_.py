"""`perf import`: LoRAs and textual inversions that somebody has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import argument, option
from perfusion_registry.cli.options import CommonWithProgress

if TYPE_CHECKING:
    from perfusion_registry.operations.import_ import ImportResult


def import_(
    common: CommonWithProgress,
    file: Annotated[
        Path, argument("FILE", "A LoRA or a textual inversion (embedding): safetensors, or peft's folder.")
    ],
    name: Annotated[str, option("CONCEPT", "How prompts call it: CONCEPT*.")],
    supercategory: Annotated[
        str | None, option("WORD", "The plain word it is a kind of (teddy, cat, pot).", "--super")
    ] = None,
    word: Annotated[
        str | None,
        option(
            "PHRASE", "What a call becomes: its trigger words.", default="what the file says, else --super"
        ),
    ] = None,
    version: Annotated[str, option("X.Y.Z", "Its version.")] = "1.0.0",
    strength: Annotated[
        float | None, option("FACTOR", "How strongly it applies in prompts.", default="1")
    ] = None,
) -> None:
    """Make a concept of a LoRA or embedding you have, and lock it.

    Its recipe names the file by path and hash; nothing is trained.
    Without --super it is a style, which applies to the whole picture.
    """
    from perfusion_registry.operations.import_ import ImportOptions
    from perfusion_registry.operations.import_ import import_ as run

    options = ImportOptions(
        file=file, name=name, supercategory=supercategory, word=word, version=version, strength=strength
    )
    with common.open() as workspace:
        result = run(workspace, options)
    common.show(result, _tell)


def _tell(result: ImportResult) -> None:
    kind = "a style" if result.supercategory is None else f"a kind of {result.supercategory}"
    said = result.word or result.supercategory
    becomes = f'reads "{said}"' if said else "says nothing, and it applies everywhere"
    if result.vectors is not None:
        becomes = f"is {console.count(result.vectors, 'token')} of its own"
    console.say(f"Imported {result.name} {result.version}, {kind} ({result.dialect}): {result.recipe}")
    console.say(f"In a prompt {result.name}* {becomes}; {console.size(result.size)}, locked")
    shown = f"a {result.name}*" if result.supercategory else f"a cat in the snow, {result.name}*"
    console.say(f"Next: perf render '{shown}'")
