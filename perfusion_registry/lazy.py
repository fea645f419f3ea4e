"""Packages whose names are imported on first use, so that a command imports no more than it needs."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # so that `perf --help` need not import typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def lazy_exports(
    package: str, homes: Mapping[str, str], *, exported: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package (PEP 562).

    homes: the module of the package that has each name. exported: the module whose function `exported` is
    given each, and gives what a program gets of it.

    To be assigned where mypy does not look: it has the imports under TYPE_CHECKING, and finds misspelt names.
    """

    def imported(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        try:
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
        except ModuleNotFoundError as error:
            from perfusion_registry.extras import lacking

            raise lacking(error) or error from error
        if exported is not None:
            value = import_module(f"{package}.{exported}").exported(value)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return imported, listed
