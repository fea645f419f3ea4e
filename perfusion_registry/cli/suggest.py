"""`perf suggest-super`: which word the things in some images are a kind of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.options import (
    BASE_HELP,
    DeviceOption,
    JsonOption,
    OfflineOption,
    ProjectOption,
    QuietOption,
)
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import BaseDescription
    from perfusion_registry.build.supercategory import Suggestion
    from perfusion_registry.reporter import Reporter


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("suggest-super")(suggest_super)


def suggest_super(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Pictures of one thing: files or globs.")
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="BASE",
            help=BASE_HELP,
            show_default="the project's, else storybook",
        ),
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Words to choose from, one a line.",
            show_default="Storybook's own; for other bases WordNet's, where it is installed",
        ),
    ] = None,
    any_length: Annotated[
        bool,
        typer.Option("--any", help="Also words of several tokens."),
    ] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Show so many.")] = 10,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
    project: ProjectOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank words for --super by how well they describe some images.

    The judge is the base's CLIP model, of each image and "a photo of a WORD"."""
    from perfusion_registry.cli import console

    reporter = console.reporter(quiet)
    paths = _paths(images)
    given = _read(words) if words is not None else None
    description = _describe(base, project, offline=offline)
    choice, source = given or _nouns(description)

    from perfusion_registry.base import Scorer, load_tokenizer
    from perfusion_registry.base.device import choose_device
    from perfusion_registry.build.supercategory import suggest

    with reporter.stage(f"Loading the CLIP model of {description.repo}"):
        scorer = Scorer.of(description, choose_device(device))
        tokenizer = load_tokenizer(description)
    pixels = _pixels(paths, scorer.preprocessing.size, reporter)
    found = suggest(scorer, tokenizer, pixels, choice, several_tokens=any_length, reporter=reporter)
    if as_json:
        said = {
            "base": description.repo,
            "source": source,
            "images": len(paths),
            "considered": len(found),
            "words": [
                {
                    "word": one.word,
                    "similarity": round(one.similarity, 6),
                    "best_of": one.best_of,
                    "tokens": one.tokens,
                }
                for one in found[:limit]
            ],
        }
        console.say_json("perf.suggest-super/1", said)
        return
    _tell(found, limit, len(paths), several_tokens=any_length)


def _tell(found: list[Suggestion], limit: int, images: int, *, several_tokens: bool) -> None:
    from perfusion_registry.cli import console

    rows = [
        [one.word, f"{one.similarity:.4f}", f"{one.best_of}/{images}", str(one.tokens)]
        for one in found[:limit]
    ]
    columns = ["word", "similarity", "best of", "tokens"]
    shown = len(columns) if several_tokens else 3
    console.say_table(
        columns[:shown], [row[:shown] for row in rows], right=["similarity", "best of", "tokens"]
    )
    if len(found) > limit:
        console.say(f"and {len(found) - limit} more words that fit less")


def _paths(patterns: list[str]) -> list[Path]:
    """The files that the arguments name, each once; masks beside images are not images."""
    from perfusion_registry.resolve.images import find_files, is_mask

    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        matched = [path] if path.is_file() else find_files(Path(), pattern.replace("\\", "/"))
        matched = [one for one in matched if not is_mask(one)]
        if not matched:
            hint = f"give its files: `{pattern}/*`" if path.is_dir() else "give files, or a glob in quotes"
            raise PerfError(f"no image matches `{pattern}`", hint=hint)
        found.update(dict.fromkeys(matched))
    return list(found)


def _describe(base: str | None, start: Path | None, *, offline: bool) -> BaseDescription:
    """The base that is named, else that of the project, else the embedded one."""
    from perfusion_registry.base import describe_base
    from perfusion_registry.base.reference import EMBEDDED
    from perfusion_registry.resolve import Project

    allowed = False if offline else None
    if base is None:
        try:
            project = Project.find(start)
        except PerfError:
            if start is not None:
                raise
        else:
            return describe_base(project.manifest.project.base, root=project.root, allow_download=allowed)
    return describe_base(base or EMBEDDED, allow_download=allowed)


def _read(path: Path) -> tuple[list[str], str]:
    from perfusion_registry.build.nouns import read_words

    return read_words(path), str(path)


def _nouns(description: BaseDescription) -> tuple[list[str], str]:
    """The nouns of a base, and what to call their list."""
    from perfusion_registry.base.reference import EMBEDDED

    if description.repo == EMBEDDED:
        from perfusion_registry.storybook.world import CATEGORIES

        return list(CATEGORIES), EMBEDDED
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

    from perfusion_registry.build.images import load_image, square

    loaded = []
    for path in paths:
        image = load_image(path)
        for note in image.notes:
            reporter.note(f"{image.name} {note}")
        loaded.append(square(image.pixels, (size, size)))
    return torch.stack(loaded)
