"""`perf lock`: pin everything to exact bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import flag, option
from perfusion_registry.cli.options import Common, DryRunOption, FrozenOption, LockedOption, OfflineOption

if TYPE_CHECKING:
    from perfusion_registry.operations.lock import LockResult


def lock(
    common: Common,
    check: Annotated[bool, flag("Fail if perfusion.lock is not up to date, and say why.", "--check")] = False,
    upgrade: Annotated[
        bool, flag("Take the newest versions, whatever is locked.", "--upgrade", "-U")
    ] = False,
    upgrade_package: Annotated[
        list[str] | None, option("NAME", "The same for one name. Repeatable.", "--upgrade-package", "-P")
    ] = None,
    lowest: Annotated[
        bool, flag("Take the oldest versions that the constraints let in.", "--lowest")
    ] = False,
    locked: LockedOption = False,
    frozen: FrozenOption = False,
    offline: OfflineOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Pin base, covariance and concepts in perfusion.lock.

    What is locked stays while the constraints let it; a registry is asked only when something is missing.
    Merge conflicts in perfusion.lock are healed, and those in perfusion.toml where both branches only added.
    """
    from perfusion_registry.operations.lock import LockOptions
    from perfusion_registry.operations.lock import lock as run

    check = check or locked
    options = LockOptions(
        check=check,
        upgrade=upgrade or frozenset(upgrade_package or ()),
        lowest=lowest,
        frozen=frozen,
        dry_run=dry_run,
    )
    with common.open(offline=offline) as workspace:
        result = run(workspace, options)
    failed = check and result.up_to_date is False  # it is not known of a frozen one
    common.show(result, None if failed else lambda result: _tell(result, done=not dry_run))
    if check:
        result.raise_if_stale()


def _tell(result: LockResult, *, done: bool) -> None:
    name, count = result.path.name, console.count(len(result.lockfile.concepts), "concept")
    if result.up_to_date is None:
        console.say(f"{name} is here, unchecked: {count}")
    elif result.up_to_date:
        console.say(f"{name} is up to date: {count}")
    else:
        console.say(f"{'Locked' if done else 'Would lock'} {count} in {name}")
    for line in result.lines:
        console.say(f"  {line}")
