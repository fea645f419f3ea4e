"""The one error type of the package: what went wrong, where, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PerfError(Exception):
    """A mistake or mishap that a person can act on; the command line prints it without a traceback.

    what: one sentence in plain words. where: the file and key path, image, or prompt excerpt it is about.
    hint: the next step, often a command to run. exit_code: 2 for an error, 1 for a check that failed.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"  at {self.where}")
        if self.hint:
            parts.append(f"  next: {self.hint}")
        return "\n".join(parts)


class CheckFailedError(PerfError):
    """A check that was asked for came out negative (`lock --check`, `verify`)."""

    exit_code = 1


@contextmanager
def at(where: str) -> Iterator[None]:
    """Say of an error within the block where it is, if it does not say so itself."""
    try:
        yield
    except PerfError as error:
        error.where = error.where or where
        raise


def one_line(text: str, longest: int = 200) -> str:
    """Words of others for a sentence of ours: on one line, so that they cannot pass for lines of perf's."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
