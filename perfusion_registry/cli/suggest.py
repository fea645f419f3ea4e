"""`perf suggest-super`: which word the things in some images are a kind of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import argument, flag, option
from perfusion_registry.cli.options import BASE_HELP, CommonWithProgress, DeviceOption, OfflineOption

if TYPE_CHECKING:
    from perfusion_registry.operations.suggest import SuggestResult


def suggest_super(
    common: CommonWithProgress,
    images: Annotated[list[str], argument("IMAGE", "Pictures of one thing: files or globs.")],
    base: Annotated[str | None, option("BASE", BASE_HELP, default="the project's, else storybook")] = None,
    words: Annotated[
        Path | None,
        option(
            "FILE",
            "Words to choose from, one a line.",
            default="Storybook's own; for other bases WordNet's, where it is installed",
        ),
    ] = None,
    any_length: Annotated[bool, flag("Also what the base reads as several words.", "--any")] = False,
    limit: Annotated[int, option("N", "Show so many.", min=1)] = 10,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Rank words for --super by how well they describe some images.

    The judge is the base's CLIP model, of each image and "a photo of a WORD"."""
    from perfusion_registry.operations.suggest import SuggestOptions, suggest

    options = SuggestOptions(
        images=images, base=base, words=words, any_length=any_length, limit=limit, device=device
    )
    with common.open(offline=offline, optional=True) as workspace:
        result = suggest(workspace, options)
    common.show(result, lambda result: _tell(result, with_tokens=any_length))


def _tell(result: SuggestResult, *, with_tokens: bool) -> None:
    if not result.fits:
        nearest = result.words[0]
        every_noun = result.source in (result.base, "wordnet")
        hardly = ", so this base will hardly draw such a thing" if every_noun else ""
        console.say(
            f"None of {console.count(result.considered, 'word')} fits: even {nearest.word} is no nearer to "
            f"the images than chance ({nearest.similarity:.2f}){hardly}"
        )
        console.say("Nearest, though none fits:")
    rows = [
        [row.word, f"{row.similarity:.4f}", f"{row.best_of}/{result.images}", str(row.tokens)]
        for row in result.words
    ]
    columns = ["word", "similarity", "best of", "tokens"]
    shown = len(columns) if with_tokens else 3
    console.say_table(columns[:shown], [row[:shown] for row in rows], right=columns[1:])
    if result.considered > len(rows):
        console.say(f"and {result.considered - len(rows)} more words that fit less")
