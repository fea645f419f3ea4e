"""`build` under another supercategory than the recipe says: `perf build --super pot=boat --out FILE`.

The result is a file and nothing else: the recipe, the lockfile and what `lock --check` says of them stay as
they are, for they are about the concept under its own supercategory. Prompts take the file with `--with`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perfusion_registry.artifact import read_card
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build import BuildOptions, BuildResult, needed_of, result_of
from perfusion_registry.operations.building import tell_how_long
from perfusion_registry.operations.concept_builder import BuildInputs, ConceptBuilder
from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.supercategory import check_supercategory
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.recipe.writing import replace_bytes, require_own

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class SupercategoryOverride:
    """A concept, the word that stands in for its supercategory, and the file to write."""

    name: str
    word: str
    out: Path

    def __post_init__(self) -> None:
        """Raise PerfError where no artifact can be written to the file."""
        check_out(self.out, self.name)

    @classmethod
    def read(
        cls, given: Sequence[str] | None, names: Sequence[str] | None, out: Path | None
    ) -> SupercategoryOverride | None:
        """What `--super NAME=WORD` and `--out FILE` say; None where neither is said. names: the concepts that
        the command names beside.

        Raises PerfError unless they name one concept, one word and a file for it.
        """
        if not given:
            if out is not None:
                raise PerfError(
                    "a build of a recipe goes into the store and the lockfile, not into a file",
                    where=f"--out {out}",
                    hint="leave it out; with --super NAME=WORD there is a file to write",
                )
            return None
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
        return cls(folded, word.strip(), out)


def check_out(out: Path, name: str) -> None:
    """Raise PerfError where the artifact of the concept `name` cannot be written to a file."""
    if out.suffix != SUFFIX or out.is_dir() or not out.absolute().parent.is_dir():
        raise PerfError(
            f"an artifact is a {SUFFIX} file in a folder that exists",
            where=f"--out {out}",
            hint=f"--out {name}{SUFFIX}",
        )
    require_own(out, "artifact", read_card)


def build_substitute(
    workspace: Workspace, override: SupercategoryOverride, options: BuildOptions
) -> BuildResult:
    """Build the concept under the other word, if the store has it not yet, and write the file."""
    begun = time.monotonic()
    if options.shard is not None or options.cluster is not None:
        hint = "leave --shard out" if options.cluster is None else "leave --on out"
        raise PerfError("--super builds one concept, which has no parts", hint=hint)
    words = {override.name: override.word}
    planned = load_plan(workspace, [override.name], force=options.force, supercategories=words)
    check_supercategory(planned.base, override.word)
    (task,) = planned.plan.tasks
    if task.reason and not options.force:
        task = replace(task, reason="under another supercategory")
        planned = replace(planned, plan=replace(planned.plan, tasks=(task,)))
    if options.dry_run:
        return result_of(planned, begun, needed=needed_of(planned, options.compute))
    built, sha256 = [], task.built
    if task.reason:
        tell_how_long(planned, options.compute, workspace.reporter)
        built.append(ConceptBuilder(BuildInputs.of(planned), options.compute, workspace.reporter).build(task))
        sha256 = built[0].sha256
    assert sha256 is not None
    replace_bytes(override.out, planned.store.get(sha256))
    return result_of(planned, begun, built=tuple(built), out=override.out)
