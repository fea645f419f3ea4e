"""`link`: exports where web UIs and ComfyUI look for LoRAs and embeddings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.export import EXPORTED, FOLDER, ExportForm, metadata_of
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.model import FileModel

How = Literal["linked", "copied", "there"]


@dataclass(frozen=True)
class Program:
    """A program that draws. mark: folders that its own has. folders: where it looks for what a file holds."""

    called: str
    mark: tuple[str, ...]
    folders: Mapping[ExportForm, str]


PROGRAMS = (
    Program(
        "ComfyUI",
        ("models", "loras"),
        {"lora": "models/loras", "textual-inversion": "models/embeddings"},
    ),
    Program(
        "a web UI (A1111, Forge)",
        ("models", "Lora"),
        {"lora": "models/Lora", "textual-inversion": "embeddings"},
    ),
    Program("SwarmUI", ("Models", "Lora"), {"lora": "Models/Lora", "textual-inversion": "Models/Embeddings"}),
)


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """Where to put exports. folder: of the program. source: of the exports; default `exports/` of the
    project. copy: copy the files, instead of linking to them. force: overwrite other files."""

    folder: Path
    source: Path | None = None
    copy: bool = False
    force: bool = False


class LinkedFile(FileModel):
    """An export, and where it is to be found now. how: `there`: it was there already."""

    source: str
    path: str
    holds: ExportForm
    how: How


class LinkResult(Result):
    """`perf link`. program: whose folder it is."""

    schema_: Literal["perf.link/1"] = named("perf.link/1")
    program: str
    folder: str
    files: tuple[LinkedFile, ...]


def link(workspace: Workspace, options: LinkOptions) -> LinkResult:
    """Link every export into the folders of a program, or copy where there are no links.

    Nothing is changed unless all can be placed. Raises PerfError for a folder of no known program, where
    there are no exports, and for other files in their places.
    """
    program = _program(options.folder)
    source = options.source or (workspace.root or Path()) / FOLDER
    exports = _exports(source)
    if not exports:
        raise PerfError(
            "there are no exports to link",
            where=str(source),
            hint="run `perf export NAME --as lora` first",
        )
    places = {path: options.folder / program.folders[form] / path.name for path, form in exports.items()}
    for path, place in places.items():
        if not (options.force or _is_ours(place, path)):
            raise PerfError(
                "there is another file of that name",
                where=str(place),
                hint="--force overwrites it; `perf export --word WORD` gives the export another name",
            )
    files = []
    for path, place in places.items():
        how = _placed(path, place, copy=options.copy)
        files.append(LinkedFile(source=str(path), path=str(place), holds=exports[path], how=how))
    return LinkResult(program=program.called, folder=str(options.folder), files=tuple(files))


def _program(folder: Path) -> Program:
    for program in PROGRAMS:
        above, below = folder / program.mark[0], program.mark[1]
        try:  # by the very letters, which a file system may not tell apart
            if program.mark[0] in os.listdir(folder) and below in os.listdir(above):
                return program
        except OSError:
            continue
    marks = " or ".join(dict.fromkeys("/".join(program.mark) for program in PROGRAMS))
    raise PerfError(
        "this is no folder of ComfyUI, a web UI or SwarmUI that perf knows",
        where=str(folder),
        hint=f"name the folder that has {marks} in it",
    )


def _exports(folder: Path) -> dict[Path, ExportForm]:
    found: dict[Path, ExportForm] = {}
    for path in sorted(folder.glob("*.safetensors")):
        about = metadata_of(path)
        if EXPORTED in about:
            found[path.absolute()] = "lora" if "ss_network_module" in about else "textual-inversion"
    return found


def _is_ours(place: Path, path: Path) -> bool:
    """Whether a place is free, or has an export of the same name: a link to it, or an older copy."""
    if place.is_symlink():
        return Path(os.readlink(place)) == path or EXPORTED in metadata_of(place) or not place.exists()
    return not place.exists() or EXPORTED in metadata_of(place)


def _placed(path: Path, place: Path, *, copy: bool) -> How:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if not copy and place.is_symlink() and Path(os.readlink(place)) == path:
            return "there"
        if copy and place.is_file() and not place.is_symlink() and place.read_bytes() == path.read_bytes():
            return "there"
        place.unlink(missing_ok=True)
        if not copy:
            try:
                place.symlink_to(path)
            except (OSError, NotImplementedError):  # a file system, or an account, without links
                shutil.copyfile(path, place)
                return "copied"
            return "linked"
        shutil.copyfile(path, place)
    except OSError as error:
        raise PerfError(f"it cannot be placed: {error.strerror or error}", where=str(place)) from error
    return "copied"
