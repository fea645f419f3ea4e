"""Weights in parts that pass where files have a limit: a folder of pieces under 16 MiB, and one list of
digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from perfusion_registry.errors import PerfError

LARGEST = 15 * 2**20
"""Bytes of a piece."""
_LIST = "parts.json"


def split(path: Path, folder: Path, *, largest: int = LARGEST) -> list[Path]:
    """Write the file as pieces into `folder`, with a list of their digests; returns all that was written."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{path.name}.[0-9][0-9][0-9]"):
        old.unlink()
    written: list[Path] = []
    listed: list[dict[str, str]] = []
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(largest):
            target = folder / f"{path.name}.{len(listed):03d}"
            target.write_bytes(piece)
            whole.update(piece)
            listed.append({"name": target.name, "sha256": hashlib.sha256(piece).hexdigest()})
            written.append(target)
    said = {"name": path.name, "sha256": whole.hexdigest(), "parts": listed}
    (folder / _LIST).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return [*written, folder / _LIST]


def join(folder: Path, target: Path) -> Path:
    """The file of the pieces in `folder`, written into the folder `target`, whole or not at all; returns it.

    Raises PerfError for a piece that is missing or is not the one that the list tells of.
    """
    try:
        said = json.loads((folder / _LIST).read_text(encoding="utf-8"))
        name, digest, listed = str(said["name"]), said["sha256"], said["parts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PerfError(f"the list of parts cannot be read: {error}", where=str(folder / _LIST)) from None
    target.mkdir(parents=True, exist_ok=True)
    path = target / Path(name).name
    beside = path.with_name(path.name + ".partial")
    whole = hashlib.sha256()
    with beside.open("wb") as file:
        for part in listed:
            piece = _read(folder / Path(part["name"]).name)
            if hashlib.sha256(piece).hexdigest() != part["sha256"]:
                raise PerfError("a part is not the one that the list tells of", where=part["name"])
            whole.update(piece)
            file.write(piece)
    if whole.hexdigest() != digest:
        raise PerfError("the parts do not make the file that the list tells of", where=str(folder))
    beside.replace(path)
    return path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PerfError("a part is missing", where=str(path), hint="copy the whole folder") from error
