"""The floors of the house: which package may know which, by the import graph and by strings alike."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "perfusion_registry"

FLOORS = (
    ("amounts", "errors", "file_lock", "reporter", "suggestions", "threads", "version", "wrapping"),
    ("extras", "memory", "other_tools", "progress", "shards"),
    ("lazy",),
    ("cache_folder",),
    ("edit", "file_digests", "plugins", "recipe", "safetensors_header", "sync_stamp", "workers"),
    ("adapters",),
    ("base",),
    ("methods", "worlds"),
    ("artifact",),
    ("registries",),
    ("trust", "resolve", "build", "storybook", "storybook2"),
    ("compose",),
    ("render",),
    ("evaluate",),
    ("verdict",),
    ("cluster",),
    ("operations",),
    ("library", "cli"),
)
"""A package knows those of the floors below it alone."""

MODEL_LIBRARIES = {"diffusers", "transformers"}
THEIR_ONLY_USERS = ("base", "storybook.training", "storybook2.training")

EXCEPTIONS: frozenset[tuple[str, str]] = frozenset()
"""Arrows that go up and are known to: (module, module). It only ever shrinks."""

_NAMED = re.compile(rf"{PACKAGE}(?:\.\w+)+\.?")


@cache
def modules() -> Mapping[str, ast.Module]:
    """Every module of the package, parsed; a package is its `__init__`."""
    trees = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def imported(tree: ast.AST) -> Iterator[str]:
    """What a module imports, at whatever place and for types only too; `from a import b` names `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, ast.unparse(node)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named_in_strings(tree: ast.AST) -> Iterator[str]:
    """Modules of the package that a string names, since something may import them; documentation aside.

    A string that ends in a dot, as the beginning of an f-string may, names all below.
    """
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            for name in _NAMED.findall(node.value):
                yield from (below(name) if name.endswith(".") else [name])


def below(prefix: str) -> list[str]:
    return [module for module in modules() if module.startswith(prefix)]


def module_of(name: str) -> str:
    """The module that a dotted name is, or is in."""
    while name not in modules():
        name = name.rpartition(".")[0]
    return name


@cache
def graph() -> Mapping[str, frozenset[str]]:
    """The modules of the package that each of them knows."""
    known = {}
    for module, tree in modules().items():
        ours = {module_of(name) for name in imported(tree) if name.split(".")[0] == PACKAGE}
        named = {module_of(name) for name in named_in_strings(tree)} - {PACKAGE}  # groups of entry points
        known[module] = frozenset(ours | named) - {module}
    return known


def floor(module: str) -> int | None:
    """None for the package itself, which is its version and its face."""
    if module == PACKAGE:
        return None
    part = module.split(".")[1]
    floors = [number for number, parts in enumerate(FLOORS) if part in parts]
    assert len(floors) == 1, f"say on which floor {part} is"
    return floors[0]


def test_arrows_go_down_only() -> None:
    wrong = set()
    for module, others in graph().items():
        for other in others:
            above, below = floor(module), floor(other)
            if above is None or below is None or module.split(".")[1] == other.split(".")[1]:
                continue
            if below >= above:
                wrong.add((module, other))
    assert wrong == EXCEPTIONS


def test_what_is_imported_exists() -> None:
    """Also where another copy of the package, installed beside this one, would have what is gone here."""
    for module, tree in modules().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] != PACKAGE or name in modules(), (module, name)


def circles(known: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in sorted(known[node]):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in known:
        if node not in order:
            visit(node)
    return found


def test_nothing_knows_itself_in_a_circle() -> None:
    assert circles({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a")}) == [["a", "b", "c"]]
    assert circles(graph()) == []


def libraries(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported(modules()[module])}


def test_bases_alone_know_the_libraries_of_models() -> None:
    users = {module for module in modules() if libraries(module) & MODEL_LIBRARIES}
    homes = tuple(f"{PACKAGE}.{home}" for home in THEIR_ONLY_USERS)
    assert {module for module in users if not module.startswith(homes)} == set()


def test_the_terminal_is_the_command_lines_alone() -> None:
    """But for progress, which programs may want to draw too, and how wide a letter is, which a caret under a
    prompt needs."""
    progress = f"{PACKAGE}.progress"
    for module, tree in modules().items():
        if module == progress:
            assert {name.split(".")[0] for name in imported(tree)} & {"typer", "click"} == set()
        elif not module.startswith(f"{PACKAGE}.cli"):
            assert progress not in {name.rpartition(".")[0] for name in imported(tree)} or module == PACKAGE
            used = {name for name in imported(tree) if name.split(".")[0] in ("typer", "rich", "click")}
            assert used <= {"rich.cells.cell_len"}, module


def test_the_command_line_stays_small() -> None:
    """What is not a matter of terminals is an operation's, so that programs have it too."""
    lines = {
        path.name: len(path.read_text("utf-8").splitlines())
        for path in (ROOT / PACKAGE / "cli").iterdir()
        if path.suffix == ".py"
    }
    assert sum(lines.values()) <= 3_600
    assert {name for name, count in lines.items() if count > 300} == set()


@pytest.mark.parametrize(
    "package", ["operations", "edit", "recipe", "methods", "resolve", "artifact", "registries", "trust"]
)
def test_logic_prints_nothing(package: str) -> None:
    for module, tree in modules().items():
        if module.startswith(f"{PACKAGE}.{package}"):
            for node in ast.walk(tree):
                printing = isinstance(node, ast.Name) and node.id == "print"
                writing = isinstance(node, ast.Attribute) and ast.unparse(node) in (
                    "sys.stdout",
                    "sys.stderr",
                )
                assert not printing, module
                assert not writing, module


def test_no_name_hides_a_module() -> None:
    """So that `import perfusion_registry.edit.gates` gives a module, as it reads."""
    hidden = []
    for module in modules():
        package, _, name = module.rpartition(".")
        if package:
            known = getattr(import_module(package), name, None)
            if not (known is None or isinstance(known, ModuleType)):
                hidden.append(module)
    assert hidden == []


def test_no_two_public_classes_have_one_name() -> None:
    """But those of methods, which play the same part in each, and of the two Storybooks, of which one
    goes."""
    homes: dict[str, list[str]] = {}
    for module, tree in modules().items():
        parts = module.split(".")[1:]
        if parts[:1] in (["storybook"], ["storybook2"]) or (parts[:1] == ["methods"] and len(parts) > 2):
            continue
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
