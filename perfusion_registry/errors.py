"""The one error type of the package: what went wrong, where, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


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


@dataclass
class Mistakes:
    """Mistakes that are told at once. what: they are in."""

    what: str
    found: list[PerfError] = field(default_factory=list)

    def add(self, what: str, where: str, hint: str | None = None) -> None:
        """One more."""
        self.found.append(PerfError(what, where=where, hint=hint))

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Keep the error of what is done here, which goes on after it. place: such as `prompts.txt:3`."""
        try:
            yield
        except PerfError as error:
            inside = (error.where or "").removeprefix("prompt, ")
            where = f"{place}, {inside}" if inside else place
            self.found.append(PerfError(error.what, where=where, hint=error.hint))

    def raise_any(self, where: str | None = None) -> None:
        """Raise the only one as it is, or all of them in one, which is at `where`; each with what to do next,
        or all with the one thing that is."""
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            hints = dict.fromkeys(error.hint for error in self.found if error.hint)
            listed = []
            for error in self.found:
                place = (error.where or "").partition("\n")[0]
                hint = f": {error.hint}" if error.hint and len(hints) > 1 else ""
                listed.append(f"\n  - {error.what} ({place}){hint}")
            raise PerfError(
                f"{len(self.found)} mistakes in {self.what}:{''.join(listed)}",
                where=where,
                hint=next(iter(hints), None) if len(hints) == 1 else None,
            )


def one_line(text: str, longest: int = 200) -> str:
    """Words of others for a sentence of ours: on one line, so that they cannot pass for lines of perf's."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
