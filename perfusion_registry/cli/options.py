"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProjectOption = Annotated[
    Path | None,
    typer.Option(
        "--project",
        metavar="DIR",
        envvar="PERF_PROJECT",
        help="Work in the project of this folder.",
        show_envvar=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")]
LockedOption = Annotated[
    bool,
    typer.Option(
        "--locked", envvar="PERF_LOCKED", show_envvar=False, help="Fail if perfusion.lock would change."
    ),
]
FrozenOption = Annotated[
    bool,
    typer.Option(
        "--frozen", envvar="PERF_FROZEN", show_envvar=False, help="Take perfusion.lock as it is, unchecked."
    ),
]
OfflineOption = Annotated[
    bool,
    typer.Option(
        "--offline", envvar="PERF_OFFLINE", show_envvar=False, help="Open no socket; know what is remembered."
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|URL", help="Ask this registry alone.", show_default="all of the project"),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
DeviceOption = Annotated[
    str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.", show_default=True)
]
DtypeOption = Annotated[str, typer.Option(metavar="DTYPE", help="auto, fp32, bf16 or fp16.")]
