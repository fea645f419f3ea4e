"""`perf verify`: whether what is locked is here, whole, and from whom it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.completion import concept_names
from perfusion_registry.cli.help import argument, flag, option
from perfusion_registry.cli.options import CommonWithProgress, Compute, OfflineOption, RequireSignedOption
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.operations.rebuild import RebuildResult
    from perfusion_registry.operations.verify import VerifyResult


def verify(
    compute: Compute,
    common: CommonWithProgress,
    names: Annotated[
        list[str] | None,
        argument("NAME", "With --rebuild: these concepts.", default="all", completion=concept_names),
    ] = None,
    rebuild: Annotated[
        bool, flag("Build from the recipes again, in an empty store, and compare.", "--rebuild")
    ] = False,
    tolerance: Annotated[
        float | None,
        option(
            "PART",
            "How far a rebuilt tensor may be from the locked one.",
            default="0.02 of its length",
            min=0,
        ),
    ] = None,
    require_signed: RequireSignedOption = False,
    offline: OfflineOption = False,
) -> None:
    """Check lockfile, store and signatures.

    Every locked concept is to be here, whole, and to say what is locked.
    Exits with 1 when something is wrong. With --rebuild, trains the recipes again and compares: the same
    bytes on the same kind of processor, tensors within a tolerance elsewhere.
    """
    if not rebuild and (names or tolerance is not None):
        raise PerfError("names and --tolerance go with --rebuild", hint="run `perf verify` for everything")
    result: RebuildResult | VerifyResult
    with common.open(offline=offline, lockfile_alone=not rebuild) as workspace:
        if rebuild:
            from perfusion_registry.operations.rebuild import TOLERANCE, RebuildOptions
            from perfusion_registry.operations.rebuild import rebuild as run

            options = RebuildOptions(
                names=tuple(names or ()),
                tolerance=TOLERANCE if tolerance is None else tolerance,
                compute=compute.read(),
            )
            result = run(workspace, options)
            common.show(result, _tell_rebuilt)
        else:
            from perfusion_registry.operations.verify import verify as check

            result = check(workspace, require_signed=require_signed)
            common.show(result, _tell_checked)
    result.raise_if_failed()


def _tell_checked(result: VerifyResult) -> None:
    from perfusion_registry.recipe.lockfile import REGISTRY
    from perfusion_registry.trust import fingerprint

    if result.failed:
        cells = [[row.name, row.version or "", wrong] for row in result.failed for wrong in row.wrong]
        console.say_table(["what", "version", "what is wrong"], cells)
        return
    console.say(f"All is as locked: {console.count(len(result.checked) - 1, 'concept')}")
    published = [row for row in result.checked if (row.source or "").startswith(REGISTRY)]
    for key in sorted({row.key for row in published if row.key}):
        names = ", ".join(row.name for row in published if row.key == key)
        console.say(f"Signed by {fingerprint(key)}: {names}")
    unsigned = [row.name for row in published if not row.key]
    if unsigned:
        console.say(f"Not signed: {', '.join(unsigned)}")


def _tell_rebuilt(result: RebuildResult) -> None:
    for row in result.rebuilt:
        if row.same_bytes:
            outcome = "the same bytes"
        elif row.within(result.tolerance):
            outcome = f"other bytes, tensors within {row.distance:.2g} of the locked ones"
        else:
            outcome = ", ".join(row.wrong) or f"tensors up to {row.distance:.2g} from the locked ones"
        console.say(f"{row.name} {row.version}: {outcome}")
    if result.rebuilt:
        console.say(f"Built on {result.rebuilt[0].processor}; tolerance {result.tolerance:g}")
