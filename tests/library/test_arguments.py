"""Who calls the library with an argument that it does not take gets one error, which says what was meant."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import perfusion_registry as perf
from perfusion_registry.base import Base
from perfusion_registry.library.arguments import Answering, ArgumentError, answering


@pytest.fixture
def composer(project: perf.Project, tiny_base: Base) -> perf.Composer:
    return perf.Composer(project.workspace, tiny_base)


def callables() -> Iterator[Any]:
    """All that programs call: exported functions, the public methods of what these return, and `Gate`."""
    for name in perf.__all__:
        value = getattr(perf, name)
        if inspect.isfunction(value):
            yield pytest.param(value, (), id=name)
        elif isinstance(value, type) and issubclass(value, Answering):
            for method, function in inspect.getmembers(value, inspect.isfunction):
                if not method.startswith("_"):
                    yield pytest.param(function, (None,), id=f"{name}.{method}")
    yield pytest.param(perf.Gate, (), id="Gate")


@pytest.mark.parametrize(("function", "itself"), [*callables()])
def test_an_unknown_argument_is_one_clear_error_everywhere(
    function: Callable[..., Any], itself: tuple[None, ...]
) -> None:
    with pytest.raises(perf.PerfError, match="takes no argument `qwertz`") as caught:
        function(*itself, qwertz=7)
    assert isinstance(caught.value, TypeError)  # as Python has it
    assert caught.value.hint


def test_every_part_of_a_project_and_all_that_draws_is_asked() -> None:
    names = {param.id for param in callables()}
    assert {
        "open",
        "composed",
        "Composer.render",
        "Project.build",
        "Project.publish",
        "Picture.save",
    } <= names
    assert len(names) > 40


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"cfg": 7}, "it is `guidance` here"),
        ({"guidance_scale": 7}, "it is `guidance` here"),
        ({"num_inference_steps": 30}, "it is `steps` here"),
        ({"num_images_per_prompt": 2}, "it is `seeds` here"),
        ({"seed": 3}, "it is `seeds` here"),
        ({"negative": "fog"}, "it is `negative_prompt` here"),
        ({"size": (64, 64)}, "it is `width` and `height` here"),
        ({"controlnet_conditioning_scale": 1.0}, "it is `control_strength` here"),
        ({"sampler": "ddim"}, "it is `scheduler` here"),
        ({"hight": 64}, "did you mean `height`?"),
        ({"cfg": 7, "hight": 64}, "it is `guidance` here; did you mean `height`?"),
        ({"zzz": 1}, "it takes prompt, seeds, scene"),
    ],
)
def test_names_of_other_libraries_and_of_commands_are_translated(
    composer: perf.Composer, said: dict[str, Any], meant: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        composer.render("a teddy", **said)
    assert meant in (caught.value.hint or "")


def test_a_licence_in_another_spelling_is_meant(project: perf.Project) -> None:
    with pytest.raises(perf.PerfError) as caught:
        project.publish("teddy", license="MIT")  # type: ignore[call-arg]
    assert caught.value.hint == "did you mean `licence`?"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"seeds": 5}, "Iterable[int]"),
        ({"gates": 5}, "Gates | None"),
        ({"image": 5}, "str | Path | None"),
        ({"negative_prompt": 5}, "str | None"),
        ({"control": "edges.png"}, "Mapping[str, str | Path] | None"),
        ({"prompt": 5}, "str | Composition | Sequence[str] | None"),
        ({"prompt": [5]}, "str | Composition | Sequence[str] | None"),
    ],
)
def test_a_value_of_another_kind_is_told_with_its_argument(
    composer: perf.Composer, said: dict[str, Any], kind: str
) -> None:
    (name, value), *_ = said.items()
    with pytest.raises(ArgumentError) as caught:
        composer.render(**{"prompt": "a teddy", **said})
    assert caught.value.what == f"`{name}` of `render` cannot be {value!r}"
    assert caught.value.hint == f"it is {kind}"


def test_a_context_tells_of_its_arguments_where_it_is_entered_and_of_nothing_inside() -> None:
    with pytest.raises(ArgumentError) as caught, perf.composed(None, 5, {}):  # type: ignore[arg-type]
        pass
    assert caught.value.what == "`prompt` of `composed` cannot be 5"

    @contextmanager
    def whole(number: int) -> Iterator[int]:
        yield number

    with pytest.raises(ValueError, match="mine"), answering(whole)("5"):
        raise ValueError("mine")
    with answering(whole)(number=5) as number:
        assert number == 5


def test_what_lacks_or_is_too_much_is_told(project: perf.Project, composer: perf.Composer) -> None:
    with pytest.raises(ArgumentError, match="missing a required argument: 'supercategory'"):
        project.add("bunny")  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match="too many positional") as caught:
        composer.render("a teddy", 3)  # type: ignore[call-arg, misc]
    assert caught.value.hint == "without names it takes prompt; all others by their names"


def test_a_mistake_of_the_library_itself_is_not_laid_on_its_caller() -> None:
    def broken(steps: int) -> int:
        return steps + "1"  # type: ignore[operator]

    with pytest.raises(TypeError) as caught:
        answering(broken)(steps=3)
    assert not isinstance(caught.value, perf.PerfError)


@pytest.mark.parametrize(("function", "itself"), [*callables()])
def test_wherever_texts_are_taken_one_need_not_be_in_a_list(
    function: Callable[..., Any], itself: tuple[None, ...]
) -> None:
    """Or its letters would be taken."""
    for parameter in inspect.signature(function).parameters.values():
        if re.search(r"(Collection|Iterable|Sequence)\[str", str(parameter.annotation)):
            assert re.search(r"(^|\| )str \|", parameter.annotation), parameter


def test_one_file_need_not_be_in_a_list(composer: perf.Composer, project: perf.Project, place: Path) -> None:
    with pytest.raises(perf.PerfError) as caught:
        composer.compose("a teddy*", files="other.safetensors")
    assert "other.safetensors" in str(caught.value)
    with pytest.raises(perf.PerfError, match="does not call 'qwertz'"):
        composer.sweep("a teddy*", names="qwertz")
    with pytest.raises(perf.PerfError, match=r"nowhere/\*\.png"):
        project.add("bunny", "teddy", "nowhere/*.png")
    with pytest.raises(perf.PerfError, match="no concept `bunny`"):
        project.lock(upgrade="bunny")


def test_what_is_exported_goes_to_other_processes() -> None:
    """As a pool of processes takes a function: by the name that it has here."""
    for name in perf.__all__:
        value = getattr(perf, name)
        if inspect.isfunction(value) or isinstance(value, type):
            assert pickle.loads(pickle.dumps(value)) is value
