"""Progress without printing: logic reports to a `Reporter`, the command line draws it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Stage(Protocol):
    """One running piece of work with a known or unknown number of steps."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done; `note` replaces the short text beside the bar (a loss, a file name)."""


class Reporter(Protocol):
    """Where long-running logic tells what it is doing."""

    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> AbstractContextManager[Stage]:
        """Open a stage of `total` steps (None: unknown); it ends with the context.

        then: how much of the same work comes after it, in its own steps; what is told of the time left counts
        that in.
        """

    def note(self, text: str) -> None:
        """Say one line that stays on the screen."""

    def warn(self, text: str) -> None:
        """Say one line that a person should not miss."""


class _SilentStage:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


def unheard(steps: int) -> None:
    """Counts for nobody: what is told of steps by default."""


class Silent:
    """A reporter that says nothing; the default of every function that takes one."""

    @contextmanager
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        """Open a stage that shows nothing."""
        yield _SilentStage()

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""


class Logging(Silent):
    """A reporter for programs: notes and warnings go to the logger `perfusion_registry`, progress nowhere."""

    @property
    def _logger(self) -> logging.Logger:
        return logging.getLogger("perfusion_registry")

    def note(self, text: str) -> None:
        """Log at INFO."""
        self._logger.info(text)

    def warn(self, text: str) -> None:
        """Log at WARNING."""
        self._logger.warning(text)


class Located:
    """A reporter that says of everything where it belongs, such as `prompts.txt:3`."""

    def __init__(self, reporter: Reporter, place: str) -> None:
        self._reporter = reporter
        self._place = place

    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> AbstractContextManager[Stage]:
        """Open a stage that says its place."""
        return self._reporter.stage(f"{self._place}: {title}", total, then)

    def note(self, text: str) -> None:
        """Say a line and its place."""
        self._reporter.note(f"{self._place}: {text}")

    def warn(self, text: str) -> None:
        """Warn, and say of which place."""
        self._reporter.warn(f"{self._place}: {text}")
