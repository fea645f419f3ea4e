"""What is said of the pictures that control a drawing, as people write it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from perfusion_registry.errors import PerfError, at


def read_controls(texts: Iterable[str]) -> dict[str, Path]:
    """The pictures of `--control NAME=FILE`, by the control. Raises PerfError for what names none, and for
    a control that is named twice."""
    controls: dict[str, Path] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise PerfError(
                f"{text!r} does not say which control reads which picture",
                where=f"--control {text}",
                hint="write NAME=FILE, as --control canny=edges.png",
            )
        if name in controls:
            raise PerfError(f"the control {name} is given two pictures", where=f"--control {text}")
        controls[name] = Path(file)
    return controls


def read_strengths(texts: Iterable[str]) -> tuple[float | None, dict[str, float]]:
    """What `--control-strength [NAME=]S` says: of all controls, None for nothing, and by name. Raises
    PerfError for a strength that is no number."""
    strengths: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        with at(f"--control-strength {text}"):
            try:
                strengths[name] = float(number)
            except ValueError:
                raise PerfError(f"{number!r} is no number", hint="write .8, or NAME=.8") from None
    return strengths.pop("", None), strengths
