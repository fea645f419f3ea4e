"""The command line. Nothing is imported before it is known which command runs.

A command is a function of a module of this package that imports only light things at its top, and has a line
in `overview.COMMANDS`; a group of commands is what `commands` of its module returns. Its parameters are its
options; those that several commands share come as one (see `spread`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import typer

    app: typer.Typer

__all__ = ["app", "main"]


def main() -> None:
    """The entry point of `perf` and `perfusion`."""
    from perfusion_registry.cli.interrupt import leave_quietly

    leave_quietly()
    import atexit
    import gc
    import os
    import sys
    import warnings

    from perfusion_registry.cli.delivery import delivered

    gc.set_threshold(10_000)  # an eighth of importing torch and diffusers was looking for circles in them
    atexit.register(gc.freeze)  # nor as the interpreter ends, which took another second
    if not sys.warnoptions:  # what libraries warn of is told by perf, or is no news to who draws
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # in workers too
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")  # a name that stdout cannot encode ends nothing
    completing = "_PERF_COMPLETE" in os.environ or "_PERFUSION_COMPLETE" in os.environ
    with delivered():
        _run(sys.argv[1:], completing)


def _run(arguments: list[str], completing: bool) -> None:
    """Do what the arguments say; nothing is imported for what can be said without."""
    import sys

    if arguments in ([], ["-h"], ["--help"]) and not completing:
        from perfusion_registry.cli.overview import overview
        from perfusion_registry.cli.style import styled

        print(overview(styled=styled()), end="")
        sys.exit(0 if arguments else 2)
    if arguments == ["--version"] and not completing:
        from perfusion_registry.version import __version__

        print(f"perf {__version__}")
        return
    if arguments[:1] == ["sync"] and not completing:
        from perfusion_registry.cli.instant import unchanged

        if (told := unchanged(arguments[1:])) is not None:
            print(told)
            return
    from perfusion_registry.cli.application import application
    from perfusion_registry.cli.overview import module_of
    from perfusion_registry.threads import wait_briefly

    wait_briefly()

    module = module_of(arguments[0]) if arguments else None
    application([module] if module else None)()


def __getattr__(name: str) -> object:
    """`app`: all commands, made when first asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from perfusion_registry.cli.application import application

    globals()["app"] = made = application()
    return made
