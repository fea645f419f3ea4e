"""`perf build --super pot=boat --out FILE`: a concept under another supercategory than its recipe says.

The result is a file and nothing else: the recipe, the lockfile and what `lock --check` says of them stay as
they are, for they are about the concept under its own supercategory. Prompts take the file with `--with`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.cli.planning import Survey, survey
from perfusion_registry.cli.supercategory import check_supercategory
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import canonical_name
from perfusion_registry.recipe.writing import replace_bytes
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.cli.construction import Built, Computing

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Substitution:
    """A concept, the word that stands in for its supercategory, and the file to write."""

    name: str
    word: str
    out: Path

    @classmethod
    def read(cls, given: list[str], names: list[str] | None, out: Path | None) -> Substitution:
        """Read the options. Raises PerfError unless they name one concept, one word and a file for it."""
        if len(given) > 1:
            raise PerfError(
                "another supercategory is tried for one concept at a time",
                where=f"--super {given[1]}",
                hint="run `perf build` once for each",
            )
        name, equals, word = given[0].rpartition("=")
        where = f"--super {given[0]}"
        if not equals or not word.strip():
            raise PerfError(
                f"{given[0]!r} does not say which concept becomes what", where=where, hint="--super pot=boat"
            )
        folded = canonical_name(name.strip().removesuffix("*"))
        if any(canonical_name(other) != folded for other in names or ()):
            raise PerfError(
                f"the command names other concepts than {folded!r}", where=where, hint="leave them out"
            )
        if out is None:
            raise PerfError(
                f"{folded!r} as {word.strip()!r} is not what is locked, so it needs a file of its own",
                where=where,
                hint=f"--out {folded}-as-{word.strip()}{SUFFIX}, or change the recipe",
            )
        if out.suffix != SUFFIX or out.is_dir() or not out.absolute().parent.is_dir():
            raise PerfError(
                f"an artifact is a {SUFFIX} file in a folder that exists",
                where=f"--out {out}",
                hint=f"--out {folded}{SUFFIX}",
            )
        return cls(folded, word.strip(), out)

    def survey(self, start: Path | None, *, force: bool) -> Survey:
        """The project, with the concept under the other word as its only task."""
        found = survey(start, [self.name], force=force, supercategories={self.name: self.word})
        check_supercategory(found.base.folder, self.word)
        tasks = tuple(
            replace(task, reason="under another supercategory") if task.reason and not force else task
            for task in found.plan.tasks
        )
        return replace(found, plan=replace(found.plan, tasks=tasks))

    def carry_out(self, found: Survey, computing: Computing, reporter: Reporter) -> list[Built]:
        """Build what is not in the store yet, and write the file; what was built."""
        from perfusion_registry.cli.construction import Machine, carry_out

        (task,) = found.plan.tasks
        built, sha256 = [], task.built
        if task.reason:
            machine = Machine(found, computing, reporter)
            with found.store.building(task.training, task.name, reporter):
                built.append(carry_out(found, task, machine, reporter))
            sha256 = built[0].sha256
        assert sha256 is not None
        replace_bytes(self.out, found.store.get(sha256))
        return built
