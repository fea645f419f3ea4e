"""The options that several commands share: one wording, one place in the help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from perfusion_registry.cli import console
from perfusion_registry.cli.help import GENERAL, flag, lockfile_flag, option

if TYPE_CHECKING:
    from perfusion_registry.cluster.address import ClusterAddress
    from perfusion_registry.operations.compute import ComputeOptions
    from perfusion_registry.operations.result import Result
    from perfusion_registry.operations.workspace import Workspace
    from perfusion_registry.reporter import Reporter

R = TypeVar("R", bound="Result")

ProjectOption = Annotated[
    Path | None,
    option("DIR", "Work in the project of this folder.", "--project", panel=GENERAL, envvar="PERF_PROJECT"),
]
JsonOption = Annotated[bool, flag("Print the result as JSON.", "--json", panel=GENERAL)]
QuietOption = Annotated[bool, flag("Show no progress.", "--quiet", "-q", panel=GENERAL)]
ForceOption = Annotated[bool, flag("Overwrite other files.", "--force")]
DryRunOption = Annotated[bool, flag("Say what would happen, change nothing.", "--dry-run")]
LockedOption = Annotated[
    bool, lockfile_flag("Fail if perfusion.lock would change.", "--locked", envvar="PERF_LOCKED")
]
FrozenOption = Annotated[
    bool, lockfile_flag("Take perfusion.lock as it is, unchecked.", "--frozen", envvar="PERF_FROZEN")
]
OfflineOption = Annotated[
    bool,
    lockfile_flag(
        "Open no socket; registries are what is remembered of them.", "--offline", envvar="PERF_OFFLINE"
    ),
]
RequireSignedOption = Annotated[
    bool,
    lockfile_flag("Refuse releases that are not signed.", "--require-signed", envvar="PERF_REQUIRE_SIGNED"),
]
RegistryOption = Annotated[
    str | None, option("NAME|URL", "Ask this registry alone.", default="all of the project")
]
ShardOption = Annotated[str | None, option("I/N", "Do one of N parts, on one of N machines.")]
BASE_HELP = "The base: storybook, OWNER/NAME@REVISION, a folder or a file."
JobsOption = Annotated[
    int,
    option(
        "N",
        "Processes at once. They share the threads, on which a build's bytes depend.",
        "--jobs",
        "-j",
        min=1,
    ),
]
DeviceOption = Annotated[
    str, option("DEVICE", "Where to compute: auto, cpu, cuda, cuda:1 or mps.", panel=GENERAL)
]
DtypeOption = Annotated[str, option("DTYPE", "Number format: auto, fp32, bf16 or fp16.", panel=GENERAL)]
OffloadOption = Annotated[
    str | None,
    option("WHAT", "Fetch to a GPU what computes: model, group.", panel=GENERAL, envvar="PERF_OFFLOAD"),
]


def _threads(count: int | None) -> int | None:
    """From now on this process has so many threads."""
    if count is not None:
        from perfusion_registry.threads import use_threads

        use_threads(count)
    return count


ThreadsOption = Annotated[
    int | None,
    option(
        "N",
        "Threads of a CPU, on which a build's last bits depend.",
        panel=GENERAL,
        default="one for each core",
        min=1,
        callback=_threads,
    ),
]


class Printing:
    """How a command speaks: its result, and what long work reports to."""

    as_json: bool
    quiet: bool = False

    def reporter(self) -> Reporter:
        """What long work reports to."""
        return console.reporter(self.quiet)

    def show(self, result: R, tell: Callable[[R], None] | None = None) -> None:
        """Print a result: as JSON, or as `tell` tells it; None where it has been told already."""
        if self.as_json:
            console.say_result(result)
        elif tell is not None:
            tell(result)


@dataclass(frozen=True)
class Standalone(Printing):
    """The option of a command that needs no project."""

    as_json: JsonOption = False


@dataclass(frozen=True)
class StandaloneWithProgress(Printing):
    """The options of one that takes its time."""

    quiet: QuietOption = False
    as_json: JsonOption = False


@dataclass(frozen=True)
class Common(Printing):
    """The options of nearly every command."""

    project: ProjectOption = None
    as_json: JsonOption = False

    def open(
        self, *, offline: bool = False, lockfile_alone: bool = False, optional: bool = False
    ) -> Workspace:
        """`Workspace.open` for the project, with this terminal's reporter."""
        from perfusion_registry.operations.workspace import Workspace

        return Workspace.open(
            self.project,
            offline=offline,
            reporter=self.reporter(),
            lockfile_alone=lockfile_alone,
            optional=optional,
        )

    def outside(self, *, offline: bool = False) -> Workspace:
        """A workspace without a project, with this terminal's reporter."""
        from perfusion_registry.operations.workspace import Workspace

        return Workspace.outside(offline=offline, reporter=self.reporter())


@dataclass(frozen=True)
class CommonWithProgress(Common):
    """Those of a command that takes its time."""

    quiet: QuietOption = False


@dataclass(frozen=True)
class LockfileUse:
    """How a command takes the lockfile."""

    locked: LockedOption = False
    frozen: FrozenOption = False
    offline: OfflineOption = False


@dataclass(frozen=True)
class OtherMachines:
    """Which other machines work, and by what they share results."""

    on: Annotated[
        str | None, option("CLUSTER", "Work on a Ray cluster: local, auto, HOST:PORT or http://HOST:8265.")
    ] = None
    shared_store: Annotated[
        str | None,
        option("ADDRESS", "What machines share: a folder, or s3://BUCKET.", envvar="PERF_SHARED_STORE"),
    ] = None

    def read(self) -> ClusterAddress | None:
        """What is said, for an operation."""
        from perfusion_registry.cluster.address import ClusterAddress

        return ClusterAddress.read(self.on, self.shared_store)


@dataclass(frozen=True)
class Compute:
    """Where a command computes."""

    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"
    threads: ThreadsOption = None
    offload: OffloadOption = None

    def read(self) -> ComputeOptions:
        """What is said, for an operation."""
        from perfusion_registry.base.offload_kinds import read_offload
        from perfusion_registry.operations.compute import ComputeOptions

        return ComputeOptions(self.device, self.dtype, self.threads, read_offload(self.offload))
