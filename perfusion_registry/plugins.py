"""What other distributions bring to a table of ours, under an entry-point group."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeVar

from perfusion_registry.errors import PerfError, one_line

T = TypeVar("T")


def load_object(named: str) -> Any:
    """The object called `package.module:attribute`."""
    module, _, attribute = named.partition(":")
    return getattr(import_module(module), attribute)


def plugin_names(group: str) -> set[str]:
    """The names that distributions of this installation bring."""
    return {point.name for point in _entry_points().select(group=group)}


def load_plugin(group: str, name: str, kind: type[T], what: str) -> T | None:
    """The object that the one distribution brings which has an entry point `name` in `group`; else None.

    kind: what it has to be an instance of. what: how an error calls it, without an article. Raises PerfError
    where two distributions bring one, or where it cannot be imported or is nothing of the kind.
    """
    points = _entry_points().select(group=group, name=name)
    if not points:
        return None
    brought_by = sorted({point.dist.name if point.dist else point.value for point in points})
    if len({point.value for point in points}) > 1:
        raise PerfError(f"{' and '.join(brought_by)} both bring the {what}", hint="uninstall one of them")
    try:
        brought = next(iter(points)).load()
    except (ImportError, AttributeError) as error:
        brought, why = None, f": {one_line(str(error))}"
    else:
        why = f": its entry point does not name a `{kind.__name__}`"
    if not isinstance(brought, kind):
        raise PerfError(
            f"the {what} that {brought_by[0]} brings cannot be used{why}",
            hint=f"upgrade or reinstall {brought_by[0]}",
        )
    return brought


def _entry_points() -> Any:
    """Those of all distributions, read again where a folder that Python looks in has changed: a method is
    looked up many times, and an installation has hundreds of distributions."""
    return _read_entry_points(tuple((path, _changed(path)) for path in sys.path))


@lru_cache(maxsize=1)
def _read_entry_points(_: tuple[tuple[str, int], ...]) -> Any:
    from importlib.metadata import entry_points  # late: most commands need no table that others extend

    return entry_points()


def _changed(path: str) -> int:
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return 0
