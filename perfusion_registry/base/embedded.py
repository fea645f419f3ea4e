"""Storybook, the base that ships with perf: where its distribution is, and which edition of it.

`perfusion-storybook` has weights and card alone. A lockfile knows the base by the digest of its files, and
the distribution says which digests its editions have had.
"""

from __future__ import annotations

import contextlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from perfusion_registry.base.files import INDEX
from perfusion_registry.errors import PerfError
from perfusion_registry.extras import EXTRAS, lacking

PACKAGE = "perfusion_storybook"
DISTRIBUTION = "perfusion-storybook"
REINSTALL = f"pip install --force-reinstall {DISTRIBUTION}"


class NotInstalledError(PerfError):
    """The distribution of the embedded base is not installed."""


@dataclass(frozen=True)
class Edition:
    """One of Storybook. version: of its distribution. digest: hex sha256 over its files. family: of the
    concepts that are learned on it."""

    version: str
    digest: str
    family: str

    @property
    def told(self) -> str:
        """By its version and the beginning of its digest."""
        return f"Storybook {self.version} ({self.digest[:12]})"


def embedded_folder() -> Path:
    """The folder of the embedded base, as diffusers keeps one. Raises PerfError where it is not installed."""
    folder = distribution_folder() / "weights"
    if not (folder / INDEX).is_file():
        raise PerfError(
            "the installed Storybook is not whole",
            where=str(folder),
            hint=f"{REINSTALL}, or name another base in perfusion.toml",
        )
    return folder


def distribution_folder() -> Path:
    """The folder of its package. Raises NotInstalledError where it is not installed."""
    try:
        module = import_module(PACKAGE)
    except ModuleNotFoundError as error:
        if lacking(error) is None:
            raise
        raise NotInstalledError(
            f"{DISTRIBUTION}, the base that ships with perf, is not installed",
            hint=f"pip install 'perfusion-registry[{EXTRAS[PACKAGE]}]', or {DISTRIBUTION} alone to lock",
        ) from error
    assert module.__file__ is not None
    return Path(module.__file__).parent


def editions() -> tuple[Edition, ...]:
    """Those that the installed one knows, itself the last. Raises PerfError where none is installed."""
    return _editions(distribution_folder() / "editions.toml")


@cache
def _editions(path: Path) -> tuple[Edition, ...]:
    return tuple(Edition(**edition) for edition in tomllib.loads(path.read_text(encoding="utf-8"))["edition"])


def told_edition(digest: str) -> str | None:
    """The installed edition by its version, where the digest is its own; None where that is of something
    else."""
    with contextlib.suppress(NotInstalledError):
        here = editions()[-1]
        return here.told if here.digest == digest else None
    return None


@dataclass(frozen=True)
class AnotherEdition:
    """A Storybook that is wanted, beside the installed one. wanted: how it is told. hint: what brings it."""

    wanted: str
    installed: Edition
    hint: str

    @property
    def here(self) -> str:
        """What is installed, as the end of a sentence."""
        return f"{self.installed.told} is installed"

    @property
    def locked(self) -> str:
        """That it is locked and the other installed."""
        return f"{self.wanted} is locked, and {self.here}"


def another_edition(wanted: str, *, known_only: bool = False) -> AnotherEdition | None:
    """The edition that has this digest or family, where it is not the installed one; None where it is.

    known_only: None too for one that the installed one does not know, which may be newer, and may be a
    Storybook with other parts put into it. Raises PerfError where none is installed.
    """
    *before, here = editions()
    if wanted in (here.digest, here.family):
        return None
    for edition in before:
        if wanted in (edition.digest, edition.family):
            return AnotherEdition(edition.told, here, f"pip install '{DISTRIBUTION}=={edition.version}'")
    if known_only:
        return None
    told = f"an edition of Storybook that is not known here ({wanted[:12]})"
    return AnotherEdition(told, here, f"pip install -U {DISTRIBUTION}")
