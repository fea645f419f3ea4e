"""`perf doctor` and `perf metadata`: the state of a project, for a person and for tools."""

from __future__ import annotations

from typing import Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import flag, option
from perfusion_registry.cli.options import Common
from perfusion_registry.cli.spread import spread
from perfusion_registry.errors import CheckFailedError, PerfError

FORMATS = (1,)
_SIGNS = {"ok": "ok", "note": "note", "broken": "BROKEN"}
_STYLES = {"ok": "green", "note": "yellow", "BROKEN": "bold red"}


@spread
def doctor(
    common: Common,
    online: Annotated[bool, flag("Also ask whether the project's registries answer.", "--online")] = False,
) -> None:
    """Examine this machine and this project.

    Python, torch, devices, store, base, lockfile, registries.
    Exits with 1 when something is broken. Opens no socket without --online.
    """
    from perfusion_registry.operations.doctor import doctor as run

    with common.open(lockfile_alone=True, optional=True) as workspace:
        result = run(workspace, online=online)
    if common.as_json:
        console.say_result(result)
    else:
        rows = []
        for finding in result.findings:
            rows.append([_SIGNS[finding.state], finding.what, finding.told])
            if finding.hint:
                rows.append(["", "", f"next: {finding.hint}"])
        console.say_table(["", "what", "found"], rows, styles=_STYLES)
    if result.broken:
        count = len(result.broken)
        raise CheckFailedError(
            f"{count} {'thing is' if count == 1 else 'things are'} broken: "
            + ", ".join(finding.what for finding in result.broken)
        )


@spread
def metadata(
    common: Common,
    format_version: Annotated[
        int | None, option("N", "The format, so that a tool gets what it knows.", default="newest")
    ] = None,
) -> None:
    """Print the project as JSON, for tools.

    Manifest, lockfile, base, scenes, and each concept with its paths and its state.

    Its schema is schemas/metadata.schema.json. Within one format, keys are only ever added.
    """
    from perfusion_registry.operations.metadata import metadata as run

    if format_version is None:
        console.reporter(quiet=True).warn(
            f"give --format-version {FORMATS[-1]}, or a newer perf may print a format that you do not know"
        )
    elif format_version not in FORMATS:
        raise PerfError(
            f"perf knows no metadata format {format_version}",
            where="--format-version",
            hint=f"give {FORMATS[-1]}",
        )
    with common.open(offline=True, lockfile_alone=True) as workspace:
        console.say_result(run(workspace))
