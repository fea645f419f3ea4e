"""`perf doctor` and `perf metadata`: the state of a project, for a person and for tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import flag, option
from perfusion_registry.cli.options import Common

if TYPE_CHECKING:
    from perfusion_registry.operations.doctor import DoctorResult

_SIGNS = {"ok": "ok", "note": "note", "broken": "BROKEN"}
_STYLES = {"ok": "green", "note": "yellow", "BROKEN": "bold red"}


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
    common.show(result, _tell)
    result.raise_if_failed()


def _tell(result: DoctorResult) -> None:
    rows = []
    for finding in result.findings:
        rows.append([_SIGNS[finding.state], finding.what, finding.told])
        if finding.hint:
            rows.append(["", "", f"next: {finding.hint}"])
    console.say_table(["", "what", "found"], rows, styles=_STYLES)


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
    from perfusion_registry.operations.metadata import NEWEST, check_format
    from perfusion_registry.operations.metadata import metadata as run

    if format_version is None:
        console.reporter(quiet=True).warn(
            f"give --format-version {NEWEST}, or a newer perf may print a format that you do not know"
        )
    else:
        check_format(format_version)
    with common.open(offline=True, lockfile_alone=True) as workspace:
        console.say_result(run(workspace))
