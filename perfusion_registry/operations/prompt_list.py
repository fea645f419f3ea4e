"""Prompts that a file lists: one a line, all composed before the first is drawn, with one base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.compose.checking import check_used
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import Mistakes, PerfError
from perfusion_registry.operations.compose import ComposingSession, Prompting, PromptOptions
from perfusion_registry.operations.foresight import warn_before_drawing
from perfusion_registry.operations.job import RenderJob, RenderOverrides, request_of, tell_size
from perfusion_registry.operations.prompt_line import read_line
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.reporter import Located, Silent
from perfusion_registry.shards import WHOLE, Shard, share

if TYPE_CHECKING:
    from perfusion_registry.base import Base

MOST = 100_000
"""Prompts of one list."""


@dataclass(frozen=True)
class PromptLine:
    """One line. place: where it stands, such as `prompts.txt:3`. text: the prompt and, in a file, options of
    its picture behind it, as `read_line` has them."""

    place: str
    text: str


@dataclass(frozen=True, kw_only=True)
class PromptList(Prompting):
    """Prompts to compose. name: of the file, or of what stands for it.

    What is set by a concept's name counts in the prompts that call it, and what is set for all concepts in
    those that call any. files: each of a concept that one of the prompts calls. plain: lines are prompts
    alone, without options behind them. shard: which of the lines are to be drawn; all are read and composed,
    since the names of pictures depend on those before.
    """

    lines: tuple[PromptLine, ...]
    name: str
    plain: bool = False
    shard: Shard = WHOLE

    def options_of(self, prompt: str) -> PromptOptions:
        """One prompt with what counts in it. Raises PerfError for a mistake in it."""
        called = parse_prompt(prompt).names
        named = {name: said for name, said in self.gates.command.items() if name in called}
        gates = replace(self.gates, command=named, command_all=self.gates.command_all if called else {})
        return PromptOptions(
            prompt=prompt,
            scene=self.scene,
            gates=gates,
            base=self.base,
            covariance=self.covariance,
            locked=self.locked,
            frozen=self.frozen,
            compute=self.compute,
        )


@dataclass(frozen=True)
class ListedJob:
    """What to draw of one line. elsewhere: another shard draws it."""

    line: PromptLine
    job: RenderJob
    elsewhere: bool = False


def read_prompt_file(path: Path) -> tuple[PromptLine, ...]:
    """The prompts of a file. Raises PerfError as `read_prompts`, and for a file that cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PerfError(
            f"the prompts cannot be read: {error.strerror or error}",
            where=str(path),
            hint="--prompts takes a file with one prompt a line, or - for standard input",
        ) from error
    return read_prompts(data, str(path))


def read_prompts(data: bytes, name: str) -> tuple[PromptLine, ...]:
    """The prompts of a text in UTF-8, one a line; empty lines, and those that begin with `#`, say nothing.

    name: of the file. Raises PerfError for what is no text, and where there is no prompt.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PerfError(
            "this is no text in UTF-8", where=f"{name}:{line}", hint="save it as UTF-8"
        ) from error
    lines = [
        PromptLine(f"{name}:{number}", line.strip())
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise PerfError("there is no prompt here", where=name, hint="write one prompt a line")
    if len(lines) > MOST:
        raise PerfError(f"these are {len(lines):,} prompts, more than {MOST:,}", where=name)
    return tuple(lines)


def load_list(
    workspace: Workspace, prompts: PromptList, overrides: RenderOverrides, loaded: Base | None = None
) -> list[ListedJob]:
    """Compose all prompts, with the base loaded once. overrides: of all of them; what a line says goes first.

    loaded: as in `load_base`. Returns nothing where the shard has no prompt. Raises PerfError with every
    mistake of every line: before the base is loaded where that can be, and before anything is drawn.
    """
    from perfusion_registry.render.draw import check_request

    if not prompts.lines:
        raise PerfError("there are no prompts", where=prompts.name)
    mistakes = Mistakes("the prompts")
    count = len(overrides.seeds) if overrides.seeds else None
    said: list[tuple[PromptLine, PromptOptions, RenderOverrides]] = []
    for line in prompts.lines:
        with mistakes.at(line.place):
            text, own = (line.text, {}) if prompts.plain else read_line(line.text, count)
            said.append((line, prompts.options_of(text), replace(overrides, **own)))
    called = list(dict.fromkeys(name for _, one, _ in said for name in parse_prompt(one.prompt or "").names))
    if prompts.files:  # what they stand in for is known only of all prompts
        mistakes.raise_any(prompts.name)
    if not mistakes.found:
        check_used(prompts.gates, called)
    session = ComposingSession(workspace, prompts, loaded)
    session.take(prompts.files, called)
    _ = session.description  # a base that is not here is no mistake of each line
    read = []
    for line, options, own_overrides in said:
        with mistakes.at(line.place):
            read.append((line, session.read(options), own_overrides))
    mistakes.raise_any(prompts.name)
    given = overrides.given(session.description)
    for line, _, own_overrides in read:
        with mistakes.at(line.place):
            own_overrides.check(session.description, given)
    mistakes.raise_any(prompts.name)

    here = {line.place for line in share(prompts.lines, prompts.shard)}
    if not here:  # what only the base can tell, the other shards do
        return []
    base, told = session.base, False
    jobs: list[ListedJob] = []
    for line, ready, own_overrides in read:
        elsewhere = line.place not in here  # where its warnings are told, too
        reporter = Silent() if elsewhere else Located(workspace.reporter, line.place)
        with mistakes.at(line.place):
            composed = session.compose(ready, reporter)
            job = RenderJob(composed, request_of(composed, own_overrides, given), given=given)
            check_request(base, composed.composition, job.request)
            warn_before_drawing(composed, job.request, reporter, sized=own_overrides.sized)
            if not (told or elsewhere or own_overrides.sized):
                told = True  # it is the same of all lines that say none
                tell_size(job, workspace.reporter)
            jobs.append(ListedJob(line, job, elsewhere))
    mistakes.raise_any(prompts.name)
    return jobs
