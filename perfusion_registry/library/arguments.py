"""What a program is told that calls the library with an argument which it does not take.

Python itself refuses it, or something deep inside trips over it. Only then is the call looked at again: one
error names the argument that is wrong, and what was meant. The public methods of every class of `Answering`
are called through here, and so are the functions that `perfusion_registry` exports.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.other_tools import told
from perfusion_registry.suggestions import did_you_mean

_FIELDS = {
    "negative": ("negative_prompt",),
    "seed": ("seeds",),
    "count": ("seeds",),
    "size": ("width", "height"),
    "with": ("files",),
    "super": ("supercategory",),
}
"""Options of commands whose arguments are called otherwise in a program."""
_LONGEST = 60  # characters of a value that are shown


def several(one_or_more: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """Of names, patterns or files those that are said: a single one need not be in a list."""
    if isinstance(one_or_more, str | Path):
        return (str(one_or_more),)
    return tuple(map(str, one_or_more))


class ArgumentError(PerfError, TypeError):
    """A call with an argument that is not taken, that lacks, or that is of the wrong kind."""


class Answering:
    """A class whose public methods say what is wrong with their arguments."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, value in list(vars(cls).items()):
            if inspect.isfunction(value) and not name.startswith("_"):
                setattr(cls, name, answering(value))


def exported(value: Any) -> Any:
    """What a package exports, answering: a function, or a dataclass that programs make themselves."""
    if inspect.isfunction(value):
        function = answering(value)
        function.__module__ = __name__.partition(".")[0]  # where a pickle, too, finds this one
        return function
    if (
        isinstance(value, type)
        and hasattr(value, "__dataclass_fields__")
        and not issubclass(value, Answering)
    ):
        value.__init__ = answering(value.__init__)  # type: ignore[method-assign]
    return value


def answering(function: Callable[..., Any]) -> Any:
    """The same function, whose mistaken calls raise ArgumentError."""

    entered = inspect.isgeneratorfunction(inspect.unwrap(function))  # by `with`, as `contextmanager` makes it

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with _answered(function, args, kwargs):
            result = function(*args, **kwargs)
        return _Entered(result, lambda: _answered(function, args, kwargs)) if entered else result

    return called


@contextmanager
def _answered(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[None]:
    """Inside, what a mistaken call trips over becomes an ArgumentError."""
    try:
        yield
    except PerfError:
        raise
    except (TypeError, AttributeError, ValueError) as error:
        mistake = mistake_of(function, args, kwargs)
        if mistake is None:
            raise
        raise mistake from error


@dataclass(frozen=True)
class _Entered(AbstractContextManager[Any]):
    """A context that is entered within another, and left without it: what is done inside is its user's."""

    context: AbstractContextManager[Any]
    within: Callable[[], AbstractContextManager[None]]

    def __enter__(self) -> Any:
        with self.within():
            return self.context.__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        return self.context.__exit__(*raised)


def mistake_of(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> ArgumentError | None:
    """What is wrong with the arguments of a call; None where nothing is."""
    signature, name = inspect.signature(function), _called(function)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        return _refused(name, signature, kwargs, error)
    for parameter in signature.parameters.values():
        if parameter.name in given and (wrong := _wrong(function, parameter, given[parameter.name])):
            shown = repr(wrong[0])
            shown = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
            return ArgumentError(
                f"`{parameter.name}` of `{name}` cannot be {shown}", hint=f"it is {wrong[1]}"
            )
    return None


def _called(function: Callable[..., Any]) -> str:
    """A function's name, or of what makes a class, its."""
    if function.__name__ == "__init__":
        return function.__qualname__.split(".")[-2]
    return function.__name__


def _refused(
    name: str, signature: inspect.Signature, kwargs: Mapping[str, Any], error: TypeError
) -> ArgumentError:
    """What Python itself refuses."""
    takes = [one for one in signature.parameters if one != "self"]
    unknown = [one for one in kwargs if one not in takes]
    if unknown:
        listed = " and ".join(f"`{one}`" for one in unknown)
        hints = [_meant(one, name, takes) for one in unknown]
        return ArgumentError(f"`{name}` takes no argument {listed}", hint="; ".join(dict.fromkeys(hints)))
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = [one.name for one in signature.parameters.values() if one.kind in kinds and one.name != "self"]
    return ArgumentError(
        f"`{name}` cannot be called so: {error}",
        hint=f"without names it takes {', '.join(first) or 'nothing'}; all others by their names",
    )


def _meant(unknown: str, name: str, takes: list[str]) -> str:
    """What an argument may have meant that is not taken: of another library, of a command, or misspelt."""
    said = (told(f"--{word}", f"perf {name}") for word in (unknown, unknown.replace("_", "-")))
    options = next((re.findall(r"--([a-z-]+)", text) for text in said if text), [unknown])
    for option in options:
        fields = _FIELDS.get(option, (option.replace("-", "_"),))
        if set(fields) <= set(takes):
            return f"it is {' and '.join(f'`{field}`' for field in fields)} here"
    return did_you_mean(unknown, takes, f"it takes {', '.join(takes)}")


def _wrong(function: Callable[..., Any], parameter: inspect.Parameter, value: Any) -> tuple[Any, str] | None:
    """A value that is not of its parameter's kind, and that kind as its annotation says it; None where it is,
    or nobody can tell."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        wanted = eval(parameter.annotation, inspect.unwrap(function).__globals__)
        adapter = TypeAdapter(wanted, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    except Exception:  # noqa: BLE001 (names that type checkers alone import, protocols)
        return None
    for one in value if parameter.kind is inspect.Parameter.VAR_POSITIONAL else (value,):
        try:
            adapter.validate_python(one)
        except ValidationError:
            return one, parameter.annotation
        except Exception:  # noqa: BLE001
            return None
    return None
