"""`suggest-super`: which word the things in some images are a kind of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.judging import warn_of_pictures
from perfusion_registry.operations.pictures import given_images
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.supercategory import nouns_drawn
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import BaseDescription


@dataclass(frozen=True, kw_only=True)
class SuggestOptions:
    """The images, as files or globs, and whose words to try.

    base: None for the project's, else the embedded one. words: a file of words, one a line; None for the
    base's own. any_length: also words of several tokens. limit: how many to return.
    """

    images: Sequence[str]
    base: str | None = None
    words: Path | None = None
    any_length: bool = False
    limit: int = 10
    device: str = "auto"


class SuggestedWord(FileModel):
    """A word that may be a supercategory. best_of: the images that no other word fits better."""

    word: str
    similarity: float
    best_of: int
    tokens: int


class SuggestResult(Result):
    """`perf suggest-super`. source: of the words, `storybook`, `wordnet` or a file; considered: how many.

    fits: whether the nearest word is nearer to the images than chance; if not, none should be taken.
    """

    schema_: Literal["perf.suggest-super/1"] = named("perf.suggest-super/1")
    base: str
    source: str
    images: int
    considered: int
    fits: bool
    words: tuple[SuggestedWord, ...]


def suggest(workspace: Workspace, options: SuggestOptions) -> SuggestResult:
    """Rank words by how well they describe the images; the judge is the base's CLIP model.

    Where the images are unlike what the base can draw, a warning says so first, as `add` does."""
    paths = [source.path for source in given_images(options.images, "IMAGES")]
    given = _read(options.words) if options.words is not None else None
    description = workspace.base_or_own(options.base)
    choice, source = given or _nouns(description)

    from perfusion_registry.base import Scorer, load_tokenizer
    from perfusion_registry.base.device import choose_device
    from perfusion_registry.build.supercategory import suggest as rank

    reporter = workspace.reporter
    with reporter.stage(f"Loading the CLIP model of {description.repo}"):
        scorer = Scorer.of(description, choose_device(options.device))
        tokenizer = load_tokenizer(description)
    pixels = _pixels(paths, scorer.preprocessing.size, reporter)
    ranked = rank(scorer, tokenizer, pixels, choice, several_tokens=options.any_length, reporter=reporter)
    # Before the words, of which the nearest says little about a picture that no word will draw.
    warn_of_pictures(description, paths, ranked[0].word, reporter, asked=True)
    return SuggestResult(
        base=description.repo,
        source=source,
        images=len(paths),
        considered=len(ranked),
        fits=ranked[0].similarity > 0,
        words=tuple(
            SuggestedWord(
                word=suggestion.word,
                similarity=round(suggestion.similarity, 6),
                best_of=suggestion.best_of,
                tokens=suggestion.tokens,
            )
            for suggestion in ranked[: options.limit]
        ),
    )


def _read(path: Path) -> tuple[list[str], str]:
    from perfusion_registry.build.nouns import read_words

    return read_words(path), str(path)


def _nouns(description: BaseDescription) -> tuple[list[str], str]:
    """The nouns of a base, and what to call their list."""
    drawn = nouns_drawn(description)
    if drawn:
        return list(drawn), description.repo
    from perfusion_registry.build.nouns import wordnet_nouns

    nouns = wordnet_nouns()
    if nouns is None:
        raise PerfError(
            "there are no words to choose from: WordNet is not installed, and perf does not download it",
            where=description.repo,
            hint="give a list with --words FILE, or install WordNet: python -m nltk.downloader wordnet",
        )
    return nouns, "wordnet"


def _pixels(paths: list[Path], size: int, reporter: Reporter) -> Tensor:
    """The images (N, 3, size, size), their middle squares."""
    import torch

    from perfusion_registry.build.framing import square
    from perfusion_registry.build.images import load_image, notes_on_squaring

    loaded = []
    for path in paths:
        image = load_image(path)
        for note in (*image.notes, *notes_on_squaring(image, (size, size))):
            reporter.note(f"{image.name} {note}")
        loaded.append(square(image.pixels, (size, size)))
    return torch.stack(loaded)
