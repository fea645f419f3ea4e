"""`perf verify`: whether what is locked is here, whole, and from whom it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.completion import concept_names
from perfusion_registry.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    OfflineOption,
    ProjectOption,
    QuietOption,
    RequireSignedOption,
)
from perfusion_registry.errors import CheckFailedError, PerfError

if TYPE_CHECKING:
    from pathlib import Path

    from perfusion_registry.cli.construction import Computing
    from perfusion_registry.reporter import Reporter


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="With --rebuild: these concepts.",
            show_default="all",
            autocompletion=concept_names,
        ),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build from the recipes again, in an empty store, and compare.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="PART",
            min=0,
            help="How far a rebuilt tensor may be from the locked one.",
            show_default="0.02 of its length",
        ),
    ] = None,
    require_signed: RequireSignedOption = False,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    project: ProjectOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check lockfile, store and signatures.

    Every locked concept is to be here, whole, and to say what is locked.
    Exits with 1 when something is wrong. With --rebuild, trains the recipes again and compares: the same
    bytes on the same kind of processor, tensors within a tolerance elsewhere.
    """
    from perfusion_registry.cli import console

    if rebuild:
        from perfusion_registry.cli.construction import Computing
        from perfusion_registry.cli.rebuilding import TOLERANCE

        allowed = TOLERANCE if tolerance is None else tolerance
        computing = Computing(device, dtype)
        _rebuild(project, names, computing, allowed, console.reporter(quiet), as_json=as_json)
        return
    if names or tolerance is not None:
        raise PerfError("names and --tolerance go with --rebuild", hint="run `perf verify` for everything")
    _verify(project, offline, require_signed, console.reporter(quiet), as_json=as_json)


def _verify(
    project: Path | None, offline: bool, require_signed: bool, reporter: Reporter, *, as_json: bool
) -> None:
    from perfusion_registry.cli import console
    from perfusion_registry.cli.verification import verify_project
    from perfusion_registry.trust import fingerprint

    checked = verify_project(project, offline=offline, require_signed=require_signed, reporter=reporter)
    bad = [one for one in checked if one.wrong]
    if as_json:
        rows = [
            {
                "name": one.name,
                "version": one.version or None,
                "source": one.source or None,
                "wrong": list(one.wrong),
                "key": one.key,
            }
            for one in checked
        ]
        console.say_json("perf.verify/1", {"whole": not bad, "checked": rows})
    elif bad:
        cells = [[one.name, one.version, wrong] for one in bad for wrong in one.wrong]
        console.say_table(["what", "version", "what is wrong"], cells)
    else:
        signed = sorted({fingerprint(one.key) for one in checked if one.key})
        by = f"; signed by {', '.join(signed)}" if signed else ""
        console.say(f"All is as locked: {_count(len(checked) - 1)}{by}")
    if bad:
        raise CheckFailedError(
            f"{_count(len(bad), 'thing')} of {len(checked)} failed the check",
            hint="`perf sync` fetches what is missing or damaged, `perf build` builds it, "
            "`perf lock` locks what changed",
        )


def _rebuild(
    project: Path | None,
    names: list[str] | None,
    computing: Computing,
    tolerance: float,
    reporter: Reporter,
    *,
    as_json: bool,
) -> None:
    from perfusion_registry.cli import console
    from perfusion_registry.cli.rebuilding import rebuild

    done = rebuild(project, names, computing, reporter)
    bad = [one for one in done if not one.within(tolerance)]
    if as_json:
        rows = [
            {
                "name": one.name,
                "version": one.version,
                "locked": one.locked,
                "sha256": one.sha256,
                "same_bytes": one.same,
                "distance": one.farthest,
                "wrong": list(one.wrong),
                "processor": one.processor,
            }
            for one in done
        ]
        console.say_json("perf.verify-rebuild/1", {"tolerance": tolerance, "rebuilt": rows})
    for one in done if not as_json else ():
        if one.same:
            told = "the same bytes"
        elif one.within(tolerance):
            told = f"other bytes, tensors within {one.farthest:.2g} of the locked ones"
        else:
            told = ", ".join(one.wrong) or f"tensors up to {one.farthest:.2g} from the locked ones"
        console.say(f"{one.name} {one.version}: {told}")
    if done and not as_json:
        console.say(f"Built on {done[0].processor}; tolerance {tolerance:g}")
    if bad:
        raise CheckFailedError(
            f"{', '.join(f'`{one.name}`' for one in bad)} did not come out as locked",
            hint="see whether it was locked with another version of torch or perf, or on another kind of "
            "processor; --tolerance sets how far is too far",
        )


def _count(number: int, noun: str = "concept") -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
