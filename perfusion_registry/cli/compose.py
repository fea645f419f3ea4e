"""`perf compose` and `perf explain`: what a prompt means to Eq. 4, for a file and for a person."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.drawing import GateOptions, PromptArguments
from perfusion_registry.cli.help import flag, option
from perfusion_registry.cli.options import CommonWithProgress, Compute, LockfileUse
from perfusion_registry.recipe.recipe import DEFAULT_METHOD

if TYPE_CHECKING:
    from rich.text import Text

    from perfusion_registry.compose.composition import ComposedConcept, Composition
    from perfusion_registry.compose.explained import ExplainedToken
    from perfusion_registry.methods.settings import Setting
    from perfusion_registry.operations.explain import ExplainResult, PresetsResult

_BAR = 10  # cells of a gate that is wide open
_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")


def compose(
    prompt: PromptArguments,
    gates: GateOptions,
    lockfile: LockfileUse,
    common: CommonWithProgress,
    out: Annotated[Path | None, option("FILE", "Write the composition here.")] = None,
) -> None:
    """Resolve a prompt to its concepts, their gates and locks.

    `perf render --composition` takes the file that --out writes. With --json it is printed.
    """
    from perfusion_registry.operations.compose import compose as run

    options = prompt.read(lockfile, gates=gates)
    with common.open(offline=lockfile.offline, lockfile_alone=True) as workspace:
        composition = run(workspace, options, out=out)
    if common.as_json:
        print(composition.to_json(), end="")
        return
    _tell(composition)
    if out is not None:
        console.say(f"Wrote {out}")


def explain(
    prompt: PromptArguments,
    gates: GateOptions,
    lockfile: LockfileUse,
    compute: Compute,
    common: CommonWithProgress,
    presets: Annotated[
        bool, flag("Show the gate presets and their numbers, and nothing else.", "--presets")
    ] = False,
) -> None:
    """Show token by token which concept's gate opens, and how far."""
    from perfusion_registry.operations.explain import explain as run
    from perfusion_registry.operations.explain import list_presets

    if presets:
        common.show(list_presets(), _tell_presets)
        return
    options = prompt.read(lockfile, compute, gates)
    with common.open(offline=lockfile.offline, lockfile_alone=True) as workspace:
        result = run(workspace, options)
    common.show(result, _show)


def _tell(composition: Composition) -> None:
    console.say(composition.prompt)
    if not composition.concepts:
        console.say("calls no concept: it is drawn by the base alone")
        return
    settings = composition.settings()
    others = any(concept.method != DEFAULT_METHOD for concept in composition.concepts)
    rows = [
        [
            f"{concept.name}*",
            concept.version,
            concept.supercategory or "a style",
            *([concept.method] if others else []),
            ", ".join(map(str, concept.positions)),
            *_cells(concept, settings),
            concept.sha256[:12],
        ]
        for concept in composition.concepts
    ]
    about = ["concept", "version", "supercategory", *(["method"] if others else []), "tokens"]
    numbers = [setting.key for setting in settings if not setting.words]
    columns = [*about, *(setting.key for setting in settings), "sha256"]
    console.say_table(columns, rows, right=["tokens", *numbers])


def _cells(concept: ComposedConcept, settings: Sequence[Setting]) -> list[str]:
    values = [(setting, getattr(concept.render, setting.field, None)) for setting in settings]
    return ["" if value is None else setting.shown(value) for setting, value in values]


def _show(explanation: ExplainResult) -> None:
    """Draw the table: a row per token, a bar per gate, and below it where each gate opens."""
    from rich.table import Table
    from rich.text import Text

    from perfusion_registry.methods.table import find_method

    screen = console.stdout()
    console.say(explanation.prompt)
    names = list(explanation.tokens[0].gate)
    called = [*names, *(concept.name for concept in explanation.concepts if concept.name not in names)]
    colours = dict(zip(called, cycle(_COLOURS), strict=False))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("token", justify="right")
    table.add_column("word", overflow="fold")
    chunks = explanation.tokens[-1].chunk + 1
    if chunks > 1:
        table.add_column("chunk", justify="right")
    weighted = any(row.weight != 1 for row in explanation.tokens)
    if weighted:
        table.add_column("weight", justify="right")
    for name in names:
        table.add_column(Text(f"{name}* gate", style=colours[name]), no_wrap=True)
        table.add_column("sim", justify="right")
    if names:
        table.add_column("removed", justify="right")
    for row in explanation.tokens:
        cells = [_position(row), _word(row, colours)]
        if chunks > 1:
            cells.append(Text(str(row.chunk + 1), style="dim"))
        if weighted:
            cells.append(Text(f"{row.weight:g}", style="dim" if row.weight == 1 else ""))
        for name in names:
            cells.append(_gate(row.gate[name], colours[name], plain=screen.options.ascii_only))
            cells.append(Text(f"{row.similarity[name]:.2f}", style="" if row.gate[name] >= 0.5 else "dim"))
        if names:
            cells.append(Text(f"{row.removed:.2f}", style="dim" if row.removed < 0.25 else ""))
        table.add_row(*cells)
    screen.print(table)
    if names:
        console.say(explanation.legend)
    for concept in explanation.concepts:
        summary = find_method(concept.method).summary(explanation.composition.concept(concept.name).render)
        line = Text(f"{concept.name}*", style=colours[concept.name])
        if concept.name not in names:
            said = f"{summary}, and no gate" if summary else "no gate"
            screen.print(line.append(f" ({concept.method}): {said}", style="default"))
            continue
        line.append(f" ({summary}) ").append(explanation.opened(concept), style="default")
        screen.print(line)


def _position(row: ExplainedToken) -> Text:
    from rich.text import Text

    return Text(str(row.first) if row.first == row.last else f"{row.first}-{row.last}", style="dim")


def _word(row: ExplainedToken, colours: dict[str, str]) -> Text:
    from rich.text import Text

    if row.concept:
        return Text(f"{row.concept}*", style=f"bold {colours[row.concept]}")
    return Text(row.shown, style="dim" if row.shown.startswith("<") and row.shown.endswith(">") else "")


def _gate(value: float, colour: str, *, plain: bool) -> Text:
    """A bar of eighths with its number; `plain` where the terminal has ASCII only."""
    from rich.text import Text

    eighths = round(max(0.0, min(1.0, value)) * _BAR * 8)
    if plain:
        bar = "#" * round(eighths / 8)
    else:
        bar = "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
    number = f"{value:.2f}".rjust(5)
    return Text(bar.ljust(_BAR), style=colour).append(number, style="bold" if value >= 0.5 else "dim")


def _tell_presets(result: PresetsResult) -> None:
    rows = [
        [
            row.name,
            f"{row.local_relative_bias:g}",
            f"{row.global_relative_bias:g}",
            f"{row.temperature:g}",
            row.meaning,
        ]
        for row in result.presets
    ]
    columns = ["preset", "relative bias (local)", "(global)", "temperature", "meaning"]
    console.say_table(columns, rows, right=columns[1:4])
