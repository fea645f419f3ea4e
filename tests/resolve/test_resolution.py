"""Resolution: cases as data over registries in memory, and laws over random ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from resolvelib import BaseReporter, Resolver

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import LockedConcept
from perfusion_registry.recipe.lockfile import REGISTRY
from perfusion_registry.recipe.name import parsed_version
from perfusion_registry.registries import Release
from perfusion_registry.resolve.candidates import CandidateFinder
from perfusion_registry.resolve.platform import Platform
from perfusion_registry.resolve.requirement import Requirement, parsed_constraint
from perfusion_registry.resolve.resolution import _provider, resolve
from perfusion_registry.resolve.sources import LocalConcept, Sources
from tests.resolve.registry import COVARIANCE, FAMILY, MemoryRegistry, release

STUDIO, PUBLIC = "https://studio.example", "https://public.example"
PLATFORM = Platform("storybook", FAMILY, COVARIANCE, "stable-diffusion")


def locked(name: str, version: str, place: str = STUDIO) -> LockedConcept:
    made = release(name, version)
    return LockedConcept(
        name=name,
        version=version,
        source=REGISTRY + place,
        sha256=made.sha256,
        size=made.size,
        render={"bias": 0.6, "temperature": 0.15, "key_lock": "local"},
    )


def finder(
    *releases: Release,
    local: Mapping[str, LocalConcept] | None = None,
    lock: Mapping[str, str] | None = None,
    yanked: tuple[tuple[str, str], ...] = (),
    lowest: bool = False,
    others: tuple[Release, ...] = (),
) -> CandidateFinder:
    registries = {STUDIO: MemoryRegistry(STUDIO, *releases), PUBLIC: MemoryRegistry(PUBLIC, *others)}
    for name, version in yanked:
        registries[STUDIO].yank(name, version, reason="a wrong ear")
    sources = Sources({"studio": STUDIO, "public": PUBLIC}, lambda place: registries[place])
    preferred = {name: locked(name, version) for name, version in (lock or {}).items()}
    bound = {name: block.registry or "" for name, block in preferred.items()}
    return CandidateFinder(sources, local or {}, PLATFORM, preferred=preferred, bound=bound, lowest=lowest)


def requirement(name: str, constraint: str = "", place: str | None = STUDIO) -> Requirement:
    return Requirement(name, constraint, place, f"perfusion.toml, concepts.{name}")


def versions(*texts: str) -> list[Release]:
    return [release("teddy", text) for text in texts]


@dataclass(frozen=True)
class Case:
    """What there is, what is asked for, and what comes of it."""

    told: str
    releases: list[Release]
    requirements: list[Requirement]
    chosen: dict[str, str]
    lock: dict[str, str] = field(default_factory=dict)
    yanked: tuple[tuple[str, str], ...] = ()
    lowest: bool = False
    local: dict[str, LocalConcept] = field(default_factory=dict)


OTHER = release("teddy", "1.2", family="e" * 64)
OTHER_KIND = Release.model_validate(
    {
        "name": "teddy",
        "version": "1.2",
        "sha256": "5" * 64,
        "size": 5,
        "architecture": "sdxl",
        "family": "e" * 64,
        "supercategory": "teddy",
        "render": {},
    }
)
STRANGE = release("teddy", "1.3", covariance="b" * 64)
PARTY = [release("party", "1", {"teddy": "<2"}), release("party", "2", {"teddy": ">=2"})]
LOCAL_PACK = LocalConcept("party", "1.0", "recipes/party.toml", "pack", {"teddy": "<2"})

CASES = [
    Case("the highest", versions("1.0", "1.10", "1.9"), [requirement("teddy")], {"teddy": "1.10"}),
    Case("the lowest", versions("1.0", "1.10"), [requirement("teddy")], {"teddy": "1.0"}, lowest=True),
    Case("a constraint", versions("1.0", "1.9", "2.0"), [requirement("teddy", ">=1,<2")], {"teddy": "1.9"}),
    Case("no pre-release unasked", versions("1.0", "2.0rc1"), [requirement("teddy")], {"teddy": "1.0"}),
    Case(
        "one that is asked for",
        versions("1.0", "2.0rc1"),
        [requirement("teddy", ">=2.0rc1")],
        {"teddy": "2.0rc1"},
    ),
    Case("nothing else there", versions("1.0a1", "1.0b2"), [requirement("teddy")], {"teddy": "1.0b2"}),
    Case("nothing else fits", versions("1.0", "2.0b1"), [requirement("teddy", ">1.0")], {"teddy": "2.0b1"}),
    Case(
        "epochs and posts",
        versions("9", "1!1.0", "1!1.0.post2"),
        [requirement("teddy")],
        {"teddy": "1!1.0.post2"},
    ),
    Case("another family", [*versions("1.0"), OTHER], [requirement("teddy")], {"teddy": "1.0"}),
    Case("another architecture", [*versions("1.0"), OTHER_KIND], [requirement("teddy")], {"teddy": "1.0"}),
    Case("another covariance", [*versions("1.0"), STRANGE], [requirement("teddy")], {"teddy": "1.0"}),
    Case(
        "a pre-release where all else is of another family",
        [*versions("1.0rc1"), OTHER],
        [requirement("teddy")],
        {"teddy": "1.0rc1"},
    ),
    Case(
        "yanked", versions("1.0", "1.1"), [requirement("teddy")], {"teddy": "1.0"}, yanked=(("teddy", "1.1"),)
    ),
    Case(
        "yanked and locked",
        versions("1.0", "1.1"),
        [requirement("teddy")],
        {"teddy": "1.1"},
        lock={"teddy": "1.1"},
        yanked=(("teddy", "1.1"),),
    ),
    Case(
        "what is locked stays",
        versions("1.0", "1.1"),
        [requirement("teddy")],
        {"teddy": "1.0"},
        lock={"teddy": "1.0"},
    ),
    Case(
        "unless the constraint moved on",
        versions("1.0", "1.1"),
        [requirement("teddy", ">1")],
        {"teddy": "1.1"},
        lock={"teddy": "1.0"},
    ),
    Case(
        "a pre-release stays locked",
        versions("1.0", "2.0rc1"),
        [requirement("teddy", ">=1")],
        {"teddy": "2.0rc1"},
        lock={"teddy": "2.0rc1"},
    ),
    Case("requirements", [*PARTY, *versions("1", "2")], [requirement("party")], {"party": "2", "teddy": "2"}),
    Case(
        "an older pack where the newest does not fit",
        [*PARTY, *versions("1", "2")],
        [requirement("party"), requirement("teddy", "<2")],
        {"party": "1", "teddy": "1"},
    ),
    Case(
        "an older pack where what the newest requires is not there",
        [*PARTY, *versions("1")],
        [requirement("party")],
        {"party": "1", "teddy": "1"},
    ),
    Case(
        "a locked requirement gives way to the search",
        [*PARTY, *versions("1", "2")],
        [requirement("party", ">=2")],
        {"party": "2", "teddy": "2"},
        lock={"teddy": "1"},
    ),
    Case(
        "a recipe satisfies a requirement of that name",
        [*PARTY, *versions("1", "2")],
        [requirement("party"), requirement("teddy", place=None)],
        {"party": "1", "teddy": "1.5"},
        local={"teddy": LocalConcept("teddy", "1.5", "recipes/teddy.toml")},
    ),
    Case(
        "a pack of the project",
        versions("1", "2"),
        [requirement("party", place=None)],
        {"party": "1.0", "teddy": "1"},
        local={"party": LOCAL_PACK},
    ),
    Case(
        "packs in a circle",
        [release("a", "1", {"b": ""}), release("b", "1", {"a": ""})],
        [requirement("a")],
        {"a": "1", "b": "1"},
    ),
    Case(
        "a conflict in one corner leaves the others alone",
        [*PARTY, *versions("1", "2"), *(release(f"bear-{n}", v) for n in range(9) for v in "123")],
        [requirement("party"), requirement("teddy", "<2"), *(requirement(f"bear-{n}") for n in range(9))],
        {"party": "1", "teddy": "1"} | {f"bear-{n}": "3" for n in range(9)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.told for case in CASES])
def test_cases(case: Case) -> None:
    made = finder(*case.releases, local=case.local, lock=case.lock, yanked=case.yanked, lowest=case.lowest)
    chosen = resolve(case.requirements, made)
    assert {name: one.version for name, one in chosen.items()} == case.chosen
    again = resolve(list(reversed(case.requirements)), made)
    assert {name: one.version for name, one in again.items()} == case.chosen


REFUSALS = [
    (
        versions("1.0", "1.1"),
        [requirement("teddy", ">=2")],
        "no version of `teddy` in the registry `studio` fits:\n"
        "  perfusion.toml, concepts.teddy asks for teddy >=2\n"
        "  1.0, 1.1: not >=2",
    ),
    (
        [OTHER_KIND],
        [requirement("teddy")],
        "no version of `teddy` in the registry `studio` fits:\n"
        "  perfusion.toml, concepts.teddy asks for teddy\n"
        "  1.2: built for bases of the architecture sdxl; storybook is of stable-diffusion",
    ),
    (
        [*versions("1.0"), OTHER],
        [requirement("teddy", ">1")],
        "no version of `teddy` in the registry `studio` fits:\n"
        "  perfusion.toml, concepts.teddy asks for teddy >1\n"
        "  1.0: not >1\n"
        "  1.2: built for storybook, a base of the family eeeeeeeeeeee; "
        "storybook is of the family ffffffffffff",
    ),
    (
        [STRANGE],
        [requirement("teddy")],
        "1.3: built with the covariance bbbbbbbbbbbb; this project's is cccccccccccc",
    ),
    (
        [*PARTY, *versions("1", "2")],
        [requirement("party", ">=2"), requirement("teddy", "<2")],
        "no version of `teddy` in the registry `studio` fits:\n"
        "  perfusion.toml, concepts.teddy asks for teddy <2\n"
        "  the pack party 2 asks for teddy >=2\n"
        "  1: not >=2, which the pack party 2 wants\n"
        "  2: not <2, which perfusion.toml, concepts.teddy wants",
    ),
    (
        PARTY,
        [requirement("party")],
        "the registry `studio` has no concept `teddy`:\n",
    ),
    (versions("1"), [requirement("tedyd")], "the registry `studio` has no concept `tedyd`"),
]


@pytest.mark.parametrize(("releases", "requirements", "said"), REFUSALS)
def test_a_conflict_is_told_in_sentences(
    releases: list[Release], requirements: list[Requirement], said: str
) -> None:
    with pytest.raises(PerfError) as caught:
        resolve(requirements, finder(*releases))
    assert said in caught.value.what
    assert caught.value.where is not None
    assert caught.value.hint


def test_a_yanked_version_is_named_with_its_reason() -> None:
    made = finder(*versions("1.0"), yanked=(("teddy", "1.0"),))
    with pytest.raises(PerfError) as caught:
        resolve([requirement("teddy", "==1.0")], made)
    assert "1.0: yanked (a wrong ear)" in caught.value.what


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(PerfError) as caught:
        resolve([requirement("tedyd")], finder(*versions("1")))
    assert caught.value.hint == "did you mean `teddy`?"


def test_a_recipe_that_does_not_fit_a_requirement_is_told() -> None:
    local = {"teddy": LocalConcept("teddy", "3.0", "recipes/teddy.toml")}
    made = finder(release("party", "1", {"teddy": "<2"}), local=local)
    with pytest.raises(PerfError) as caught:
        resolve([requirement("party"), requirement("teddy", place=None)], made)
    assert "the pack party 1 asks for teddy <2" in caught.value.what
    assert "recipes/teddy.toml is 3.0" in caught.value.what


def test_a_name_never_comes_from_a_registry_that_nobody_named() -> None:
    made = finder(*versions("1"), others=(release("teddy", "99"),))
    with pytest.raises(PerfError) as caught:
        made.bind("teddy", "perfusion.toml, concepts.teddy")
    assert "`public` and `studio` both have `teddy`" in caught.value.what
    assert made.sources.bind("teddy", "studio", "here") == STUDIO
    alone = finder(*versions("1"))
    assert alone.bind("teddy", "here") == STUDIO
    kept = finder(*versions("1"), others=(release("teddy", "99"),), lock={"teddy": "1"})
    assert kept.bind("teddy", "here") == STUDIO
    with pytest.raises(PerfError, match="none of the registries"):
        alone.bind("teapot", "here")


def test_what_a_pack_requires_comes_from_the_pack_s_registry() -> None:
    made = finder(PARTY[0], *versions("1"), others=(release("teddy", "1.9"),))
    assert resolve([requirement("party")], made)["teddy"].place == STUDIO
    with pytest.raises(PerfError) as caught:
        resolve([requirement("party"), requirement("teddy", place=PUBLIC)], made)
    assert "would be two concepts of one name" in caught.value.what
    assert "from `public`" in caught.value.what
    assert "from `studio`" in caught.value.what


def test_a_locked_version_that_its_registry_lost_is_an_error() -> None:
    with pytest.raises(PerfError) as caught:
        resolve([requirement("teddy")], finder(*versions("1.0"), lock={"teddy": "1.1"}))
    assert "has teddy 1.1, which is locked, no longer" in caught.value.what
    assert "--upgrade-package teddy" in (caught.value.hint or "")


def test_each_name_is_asked_for_once() -> None:
    made = finder(*PARTY, *versions("1", "2"))
    resolve([requirement("party"), requirement("teddy", "<2")], made)
    registry = made.sources.registry(STUDIO)
    assert isinstance(registry, MemoryRegistry)
    assert sorted(registry.asked) == ["party", "teddy"]


def test_packs_that_need_each_other_are_let_go_together() -> None:
    """x 2 brings a circle along, y lets x 2 go, and then nobody needs the circle but itself.

    What resolvelib's `Resolver` does at the end, a walk from each pin to the root, goes round it forever.
    """
    world = [
        release("x", "1", {}),
        release("x", "2", {"ring-a": ""}),
        release("y", "1", {"x": "<2"}),
        release("ring-a", "1", {"ring-b": ""}),
        release("ring-b", "1", {"ring-a": ""}),
    ]
    chosen = resolve([requirement("x"), requirement("y")], finder(*world))
    assert {name: one.version for name, one in chosen.items()} == {"x": "1", "y": "1"}
    with pytest.raises(RecursionError):  # once this fails, `_search` may use it
        Resolver(_provider(finder(*world)), BaseReporter()).resolve([requirement("x"), requirement("y")])
    # A circle that is needed is chosen whole.
    chosen = resolve([requirement("x", "==2")], finder(*world))
    assert {name: one.version for name, one in chosen.items()} == {"ring-a": "1", "ring-b": "1", "x": "2"}


NAMES = ["a", "b", "c", "d"]
CONSTRAINTS = ["", ">=2", "<3", "==1", "!=2", ">=1,<3"]
WORLDS = st.fixed_dictionaries(
    {
        name: st.lists(
            st.tuples(
                st.sampled_from(["1", "2", "3"]),
                st.dictionaries(st.sampled_from(NAMES), st.sampled_from(CONSTRAINTS), max_size=2),
            ),
            unique_by=lambda pair: pair[0],
            max_size=3,
        )
        for name in NAMES
    }
)
REQUIREMENTS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(CONSTRAINTS), min_size=1)


@settings(max_examples=150)
@given(WORLDS, REQUIREMENTS)
@example(  # the search goes back behind all who asked for b
    {
        "a": [("3", {"b": ""}), ("2", {"a": "", "c": ""})],
        "b": [("1", {}), ("2", {})],
        "c": [("1", {"a": "==1"})],
        "d": [("1", {"a": "<3"})],
    },
    {"d": "", "a": ""},
)
def test_what_is_chosen_satisfies_all_and_is_found_whenever_it_exists(
    world: dict[str, list[tuple[str, dict[str, str]]]], requirements: dict[str, str]
) -> None:
    """Against the resolver stands the trial of every choice there is."""
    releases = [
        release(name, version, {need: needs[need] for need in needs if need != name})
        for name, found in world.items()
        for version, needs in found
    ]
    made = finder(*releases)
    asked = [requirement(name, constraint) for name, constraint in requirements.items()]
    exists = any(_holds(dict(choice), releases, requirements) for choice in _choices(world))
    try:
        chosen = {name: one.version for name, one in resolve(asked, made).items()}
    except PerfError:
        assert not exists
        return
    assert _holds(chosen, releases, requirements)


def _choices(
    world: dict[str, list[tuple[str, dict[str, str]]]],
) -> itertools.product[tuple[tuple[str, str], ...]]:
    options = [[(), *((name, version) for version, _ in found)] for name, found in world.items()]
    return (tuple(pair for pair in choice if pair) for choice in itertools.product(*options))  # type: ignore[return-value]


def _holds(choice: dict[str, str], releases: list[Release], requirements: dict[str, str]) -> bool:
    wanted = list(requirements.items())
    for one in releases:
        if choice.get(one.name) == one.version:
            wanted += [(need.name, need.version) for need in one.requires]
    return all(
        name in choice and parsed_constraint(constraint).contains(parsed_version(choice[name]))
        for name, constraint in wanted
    )
