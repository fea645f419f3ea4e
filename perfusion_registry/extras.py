"""Optional parts of the package: what brings a library that is not installed, in a sentence."""

from __future__ import annotations

from importlib import import_module

from perfusion_registry.errors import PerfError

EXTRAS = {
    "torch": "models",
    "diffusers": "models",
    "transformers": "models",
    "accelerate": "models",
    "perfusion_storybook": "models",
    "jinja2": "evaluate",
    "matplotlib": "evaluate",
    "pyarrow": "parquet",
    "obstore": "s3",
    "resvg_py": "storybook",
    "gguf": "gguf",
    "ray": "cluster",
}
"""Libraries that perf does without, each with the extra of the package that brings it."""


def require(library: str, what: str = "to train and to draw", where: str | None = None) -> None:
    """Raise PerfError unless an optional library is installed. The arguments are those of `lacking`."""
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        raise lacking(error, what, where) or error from error


def lacking(
    error: Exception, what: str = "to train and to draw", where: str | None = None
) -> PerfError | None:
    """The error for a person where an import failed because an optional library is not installed; None where
    it failed for another reason.

    what: it is needed for, as the end of a sentence.
    """
    if not isinstance(error, ModuleNotFoundError):
        return None
    library = (error.name or "").partition(".")[0]
    if library not in EXTRAS:
        return None
    return PerfError(
        f"{library} is not installed, and is needed {what}",
        where=where,
        hint=f"pip install 'perfusion-registry[{EXTRAS[library]}]'",
    )
