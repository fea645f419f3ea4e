"""The text of a lockfile: written one field per line, read with its merge conflicts healed."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.document import fields_of, parse_toml, quote, read_text, validate
from perfusion_registry.recipe.lockfile import FORMAT_VERSION, REVISIONS, LockedBase, LockedConcept, Lockfile
from perfusion_registry.recipe.lockfile1 import LockedBase1, LockedConcept1, Lockfile1
from perfusion_registry.recipe.merge import Merged, has_conflicts, merge_sides, sides
from perfusion_registry.recipe.writing import replace_text

_HEADER = "# Written by perf; change perfusion.toml or the recipes and run `perf lock` instead.\n"


def write_lockfile(path: Path, lock: Lockfile) -> bool:
    """Write the lockfile if its text changes; whether it did. Raises PerfError when it cannot be written."""
    return replace_text(path, dump_lockfile(lock))


def read_lockfile(path: Path, *, drop_conflicts: bool = False) -> Lockfile:
    """Read and check a lockfile.

    Unknown keys of a newer revision are ignored. Merge-conflict markers are healed per concept; what the two
    sides lock differently is an error, or left out if `drop_conflicts`. Raises PerfError for a format newer
    than this perf knows.
    """
    return parse_lockfile(read_text(path, "lockfile"), str(path), drop_conflicts=drop_conflicts)


def parse_lockfile(text: str, where: str, *, drop_conflicts: bool = False) -> Lockfile:
    """`read_lockfile` on text; `where` names it in errors."""
    if has_conflicts(text):
        ours, theirs = (_parse(side, where) for side in sides(text, where))
        return merge_sides(ours, theirs, where, drop_conflicts=drop_conflicts)
    return _parse(text, where)


def dump_lockfile(lock: Lockfile) -> str:
    """The canonical text of a lockfile: LF, sorted blocks, one field per line."""
    return _dumped(spelt_lockfile(lock))


def spelt_lockfile(lock: Lockfile) -> Lockfile | Lockfile1:
    """The lockfile in the spelling of the format that it is written in."""
    written = lock.as_written()
    return Lockfile1.of(written) if written.version == 1 else written


def _dumped(lock: Lockfile | Lockfile1) -> str:
    blocks = [f"version = {lock.version}\nrevision = {lock.revision}\n"]
    if lock.base is not None:
        fields = _told_of_base(lock.base)
        blocks.append(_block("[base]", fields))
        files = sorted(lock.base.files, key=lambda file: file.path)
        blocks += [_block("[[base.file]]", file.model_dump()) for file in files]
    if lock.covariance is not None:
        blocks.append(_block("[covariance]", lock.covariance.model_dump()))
    every: tuple[LockedConcept | LockedConcept1, ...] = lock.concepts
    concepts = sorted(every, key=lambda concept: concept.name)
    blocks += [_block("[[concept]]", _told(concept)) for concept in concepts]
    return _HEADER + "\n" + "\n".join(blocks)


def dump_merged(merged: Merged) -> str:
    """The text of a merge; the blocks in conflict between markers, as `git merge` leaves them."""
    ours, theirs = (dump_lockfile(side).rstrip("\n").split("\n\n") for side in (merged.ours, merged.theirs))
    blocks: list[str] = []
    for kind, i, j, k, m in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind == "equal":
            blocks += ours[i:j]
            continue
        mine, other = ("\n\n".join(side) for side in (ours[i:j], theirs[k:m]))
        marked = ["<<<<<<< ours", *([mine] if mine else []), "=======", *([other] if other else [])]
        blocks.append("\n".join([*marked, ">>>>>>> theirs"]))
    return "\n\n".join(blocks) + "\n"


def _parse(text: str, where: str) -> Lockfile:
    data = parse_toml(text, where, "lockfile")
    version = data.get("version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise PerfError(
            f"the lockfile has format {version}; this perf reads up to {FORMAT_VERSION}",
            where=where,
            hint="upgrade perf: pip install -U perfusion-registry",
        )
    model: type[Lockfile | Lockfile1] = Lockfile if version == 2 else Lockfile1
    revision = data.get("revision")
    if isinstance(revision, int) and revision > REVISIONS[2 if version == 2 else 1]:
        data = _known(data, model)
    read: Lockfile | Lockfile1 = validate(data, model, text=text, where=where, kind="lockfile")
    lock = read.upgraded() if isinstance(read, Lockfile1) else read
    names = [concept.name for concept in lock.concepts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PerfError(
            f"the lockfile locks `{twice[0]}` twice",
            where=where,
            hint="remove one of the two blocks, then run `perf lock`",
        )
    return lock


def _known(value: Any, model: Any) -> Any:
    """Parsed data of a newer revision without the keys that this perf does not know."""
    if isinstance(value, list):
        return [_known(item, model) for item in value]
    if not isinstance(value, dict):
        return value
    fields = fields_of(model)
    if not fields:  # a table with keys of its own, such as `requires`
        return value
    return {key: _known(item, fields[key].annotation) for key, item in value.items() if key in fields}


def _told(concept: LockedConcept | LockedConcept1) -> dict[str, Any]:
    """A concept's fields without those that say nothing; each option of `render` has a line of its own."""
    fields = concept.model_dump(exclude={"kind"} if concept.kind == "concept" else {"method"})
    fields["requires"] = dict(sorted(concept.requires.items())) or None
    render = fields.pop("render", {})
    return fields | {f"render.{toml_key(key)}": render[key] for key in sorted(render)}


def _told_of_base(base: LockedBase | LockedBase1) -> dict[str, Any]:
    """A base's fields but its files; each thing that `[base]` says has a line of its own."""
    fields = base.model_dump(exclude={"files", "options"})
    if isinstance(base, LockedBase1) or base.options is None:
        return fields
    said = base.options.model_dump(include=set(base.options.said), mode="json")
    return fields | {
        f"options.{key}": tuple(value) if isinstance(value, list) else value for key, value in said.items()
    }


def _block(header: str, fields: dict[str, Any]) -> str:
    lines = [f"{key} = {toml_value(value)}" for key, value in fields.items() if value is not None]
    return "\n".join([header, *lines, ""])


def toml_value(value: Any) -> str:
    """A value on one line of TOML; keys without a value are left out."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, dict):
        present = {key: item for key, item in value.items() if item is not None}
        pairs = [f"{toml_key(key)} = {toml_value(item)}" for key, item in present.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def toml_key(key: str) -> str:
    """A key of TOML, quoted where it has to be."""
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else quote(key)
