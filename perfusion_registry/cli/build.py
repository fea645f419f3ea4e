"""`perf build`: turn recipes into artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.completion import concept_names
from perfusion_registry.cli.drawing import CovarianceOption, ForOption, WithOption
from perfusion_registry.cli.facts import say_facts
from perfusion_registry.cli.help import argument, flag, option
from perfusion_registry.cli.options import (
    CommonWithProgress,
    Compute,
    DryRunOption,
    JobsOption,
    LockedOption,
    OtherMachines,
    ShardOption,
)

if TYPE_CHECKING:
    from perfusion_registry.operations.build import BuildResult
    from perfusion_registry.operations.substitute import SupercategoryOverride


def build(
    compute: Compute,
    common: CommonWithProgress,
    machines: OtherMachines,
    names: Annotated[
        list[str] | None, argument("NAME", "The concepts to build.", default="all", completion=concept_names)
    ] = None,
    force: Annotated[bool, flag("Build even what is up to date.", "--force")] = False,
    supercategory: Annotated[
        list[str] | None,
        option(
            "NAME=WORD",
            "Build it under another supercategory than its recipe's, into --out, and lock nothing.",
            "--super",
        ),
    ] = None,
    out: Annotated[
        Path | None, option("FILE", "With --super or --for: the .safetensors file to write.")
    ] = None,
    for_base: ForOption = None,
    files: WithOption = None,
    covariance: CovarianceOption = None,
    locked: LockedOption = False,
    jobs: JobsOption = 1,
    shard: ShardOption = None,
    strict: Annotated[bool, flag("Exit with 1 where a verdict is fair or poor.", "--strict")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Train the concepts whose inputs changed, and lock them.

    A verdict says what each became. A build that is interrupted resumes where it was. A concept on Storybook
    takes from a minute and a half (two fast cores) to six (slow and busy ones), most of it training.
    With --for nothing is trained: concepts are transferred.
    """
    from perfusion_registry.operations.build import BuildOptions, check_learned
    from perfusion_registry.operations.build import build as run
    from perfusion_registry.operations.substitute import SupercategoryOverride, build_substitute

    if for_base is not None:
        from perfusion_registry.cli.transfer import tell_transferred
        from perfusion_registry.operations.transfer import TransferOptions, check_alone, transfer

        others = {"--super": supercategory, "--force": force, "--locked": locked, "--shard": shard}
        check_alone(for_base, {**others, "--on": machines.on})
        asked = TransferOptions(
            base=for_base,
            names=tuple(names or ()),
            files=tuple(files or ()),
            covariance=covariance,
            out=out,
            dry_run=dry_run,
            compute=compute.read(),
        )
        with common.open() as workspace:
            transferred = transfer(workspace, asked)
        common.show(transferred, lambda result: tell_transferred(result, asked))
        return
    check_learned(files, covariance)
    override = SupercategoryOverride.read(supercategory, names, out)
    options = BuildOptions(
        names=tuple(names or ()),
        force=force,
        locked=locked,
        jobs=jobs,
        shard=shard,
        dry_run=dry_run,
        compute=compute.read(),
        cluster=machines.read(),
    )
    with common.open() as workspace:
        if override is None:
            result = run(workspace, options)
        else:
            result = build_substitute(workspace, override, options)
    common.show(result, lambda result: _tell(result, override, dry_run=dry_run))
    if strict:
        result.raise_if_doubtful()


def _tell(result: BuildResult, override: SupercategoryOverride | None, *, dry_run: bool) -> None:
    if dry_run or (override is None and not result.built):
        for line in result.plan_in_words(dry_run=dry_run):
            console.say(line)
        return
    if result.built:
        _tell_table(result)
    if override is not None:
        console.say(f"Wrote {override.out}: {override.name} as {override.word}; nothing is locked")
        console.say(f"Next: perf render 'a {override.name}*' --with {override.out}")


def _tell_table(result: BuildResult) -> None:
    cells = [
        [
            row.name,
            row.version,
            row.reason if row.trained else f"{row.reason} (no training)",
            console.duration(row.seconds),
            console.size(row.size),
            f"{row.steps_kept}/{getattr(row.card.train, 'steps', '?')}",
        ]
        for row in result.built
    ]
    columns = ["concept", "version", "why", "time", "size", "step"]
    console.say_table(columns, cells, right=["time", "size", "step"])
    rest = f"; {len(result.up_to_date)} up to date" if result.up_to_date else ""
    for row in result.built:
        told = None if row.verdict is None else row.verdict.in_words
        told = f"{row.rating}: see the warning above" if row.warned else told
        say_facts({row.name: told, **row.scores_in_words, "sheet": row.sheet})
    if any(row.sheet for row in result.built):
        console.say("A sheet is a picture to look at; `perf info NAME` says all of this again")
    took = console.duration(result.seconds)
    console.say(f"Built {console.count(len(result.built), 'concept')} in {took}{rest}")
