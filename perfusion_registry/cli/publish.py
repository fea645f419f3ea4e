"""`perf publish`, `perf yank`, `perf unyank`: what others can find in a registry."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli import console
from perfusion_registry.cli.completion import concept_names, registry_names
from perfusion_registry.cli.facts import say_facts
from perfusion_registry.cli.help import argument, flag, option
from perfusion_registry.cli.options import Common, DryRunOption

if TYPE_CHECKING:
    from perfusion_registry.operations.publish import Published, YankResult
    from perfusion_registry.operations.release_facts import ReleaseFacts
    from perfusion_registry.operations.target import RegistryTarget
    from perfusion_registry.registries import Release

TargetOption = Annotated[
    str | None,
    option(
        "NAME|URL",
        "A registry of perfusion.toml, or an address.",
        "--registry",
        default="`default`, or the only one",
        completion=registry_names,
    ),
]
VersionArgument = Annotated[str | None, argument("VERSION", "The version, where NAME stands alone.")]
ReleaseArgument = Annotated[
    str, argument("NAME==VERSION", "The published version; `studio/teddy==1.0.0` says of which registry.")
]


@dataclass(frozen=True)
class FactsArguments:
    """What the command line says of a release, and its recipe shall say from then on."""

    licence: Annotated[
        str | None, option("ID", "Its licence, such as CC-BY-4.0.", "--licence", "--license")
    ] = None
    authors: Annotated[list[str] | None, option("WHO", "Who made it. Repeatable.", "--author")] = None
    description: Annotated[str | None, option("TEXT", "What it shows.")] = None
    consent: Annotated[
        str | None, option("TEXT", "Who agreed, where a person or a private thing is shown.")
    ] = None
    preview: Annotated[Path | None, option("IMAGE", "A picture that shows it to others.")] = None

    def read(self) -> ReleaseFacts:
        """What is said, for an operation."""
        from perfusion_registry.operations.release_facts import ReleaseFacts

        return ReleaseFacts(**{**vars(self), "authors": tuple(self.authors or ())})


def publish(
    common: Common,
    facts: FactsArguments,
    names: Annotated[list[str], argument("NAME", "Concepts or scene packs.", completion=concept_names)],
    registry: TargetOption = None,
    sign: Annotated[bool, flag("Sign with the key of `perf key`.", "--sign")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Publish built concepts: the very bytes that are locked.

    A published version never changes; publishing it again does nothing. What is said of a release is written
    into its recipe. In a terminal, what no registry does without is asked for.
    """
    from perfusion_registry.operations.publish import PublishOptions
    from perfusion_registry.operations.publish import publish as run

    options = PublishOptions(
        names=tuple(names), registry=registry, sign=sign, dry_run=dry_run, facts=facts.read()
    )
    with common.open() as workspace:
        if common.as_json:
            console.say_result(run(workspace, options))
        else:
            ask = _ask if sys.stdin.isatty() and sys.stdout.isatty() else None
            run(workspace, options, ask=ask, before=_show, after=_tell_published)


def _ask(name: str, keys: tuple[str, ...]) -> ReleaseFacts:
    """Ask for what a recipe lacks: the answers stand in it from then on."""
    from perfusion_registry.operations.release_facts import QUESTIONS, ReleaseFacts

    opening = f"The recipe of {name} keeps what you say of it here; Enter leaves it out."
    print(console.printable(opening), file=sys.stderr)
    answers = {key: _answer(question) for key, question in QUESTIONS.items() if key in keys}
    return ReleaseFacts.read({key: answer for key, answer in answers.items() if answer})


def _answer(question: str) -> str | None:
    """What a person types after the question, on stderr; None for nothing."""
    try:
        answer: str = typer.prompt(question, default="", show_default=False, err=True)
    except typer.Abort as error:  # Ctrl-C, or the end of what there is to read
        raise KeyboardInterrupt from error
    return answer.strip() or None


def yank(
    common: Common,
    release: ReleaseArgument,
    version: VersionArgument = None,
    reason: Annotated[str, option("TEXT", "Why; everybody can read it.")] = "",
    registry: TargetOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Hide a published version from new locks.

    Locks that have it still work.
    """
    from perfusion_registry.operations.publish import yank as run
    from perfusion_registry.operations.target import parse_release

    where, name, version = parse_release(release, version)
    with common.open(optional=True) as workspace:
        result = run(workspace, name, version, registry=registry or where, reason=reason, dry_run=dry_run)
    common.show(result, lambda result: _tell_yanked(result, "yank"))


def unyank(
    common: Common,
    release: ReleaseArgument,
    version: VersionArgument = None,
    registry: TargetOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Show a yanked version again."""
    from perfusion_registry.operations.publish import unyank as run
    from perfusion_registry.operations.target import parse_release

    where, name, version = parse_release(release, version)
    with common.open(optional=True) as workspace:
        result = run(workspace, name, version, registry=registry or where, dry_run=dry_run)
    common.show(result, lambda result: _tell_yanked(result, "unyank"))


def _tell_yanked(result: YankResult, verb: str) -> None:
    what = f"{result.name} {result.version} in {result.target.name}"
    if result.changed is None:
        console.say(f"Would {verb} {what}")
    elif result.changed:
        console.say(f"{verb.capitalize()}ed {what}")
    else:
        console.say(f"{what} is {'yanked already' if verb == 'yank' else 'not yanked'}")


def _tell_published(row: Published, target: RegistryTarget) -> None:
    what = f"{row.release.name} {row.release.version}"
    if row.published is None and not row.out:
        console.say(f"Would publish {what} to {target.name}")
    elif row.published:
        console.say(f"Published {what} to {target.name}")
    else:
        console.say(f"{what} is in {target.name} already")


def _show(release: Release, target: RegistryTarget) -> None:
    """Everything that others will read of it, and what they may miss."""
    from perfusion_registry.operations.concept_in_words import release_in_words

    console.say(f"{release.name} {release.version} -> {target.name} ({target.url})")
    say_facts(release_in_words(release))
