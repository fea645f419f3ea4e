"""How a manifest names a base: the embedded one, a Hugging Face Hub model at a revision, or a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perfusion_registry.cache_folder import expand_user
from perfusion_registry.errors import PerfError

EMBEDDED = "storybook"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_HUB = re.compile(rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[^\s@]+))?")
_ONE_NAME = re.compile(_PART)
_FOLDER = re.compile(r"\.{1,2}(?:[/\\].*)?|~?[/\\].*|[A-Za-z]:[/\\].*", re.DOTALL)
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
FILES = (".safetensors", *PICKLES, ".gguf")
"""How a path ends that is a file, in any case, whatever comes before."""
_MANIFEST = ".toml"


@dataclass(frozen=True)
class BaseReference:
    """A parsed base name. It says where to look, not whether anything is there.

    text: as written. kind: which of the three it is. repo: "storybook", "owner/name", or the path as
    written; of a project's manifest, its base is meant, with all that is said of it there. revision: a
    branch, tag or commit of a hub model; None for its default branch, and for the other kinds.
    """

    text: str
    kind: Literal["embedded", "hub", "path"]
    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, *, where: str | None = None) -> BaseReference:
        """Parse "storybook", "owner/name", "owner/name@revision", "./folder", "../folder", "/folder" or
        "models/file.safetensors".

        where: the file and key path that `text` comes from, for the error.
        Raises PerfError when `text` is none of these.
        """
        if text == EMBEDDED:
            return cls(text, "embedded", text)
        if _FOLDER.fullmatch(text) or (text.lower().endswith((*FILES, _MANIFEST)) and "://" not in text):
            return cls(text, "path", text)
        hub = _HUB.fullmatch(text)
        if hub and ".." not in hub["repo"]:
            return cls(text, "hub", hub["repo"], hub["revision"])
        folder = text if _ONE_NAME.fullmatch(text) else "folder"
        raise PerfError(
            f"{text!r} does not name a base",
            where=where,
            hint=f'write "{EMBEDDED}", "owner/name@revision" for a Hugging Face model, "./{folder}" for a '
            'folder, or a file as "model.safetensors"',
        )

    @property
    def is_manifest(self) -> bool:
        """Whether it is the path of a project's manifest."""
        return self.kind == "path" and self.repo.lower().endswith(_MANIFEST)

    def place(self, root: Path | None = None) -> Path | None:
        """Where a base lies that is named by its path, absolute; None for the other kinds.

        root: what a relative path is relative to; the working directory by default.
        """
        if self.kind != "path":
            return None
        path = (root or Path.cwd()) / expand_user(self.repo)
        # A file is known by how its name ends, and a link to it may lead to a name that ends otherwise, as
        # those of the Hub's cache do.
        return path.parent.resolve() / path.name if path.is_file() else path.resolve()

    def seen_from(self, root: Path) -> str:
        """The reference as it reads from anywhere: a path, which is relative to `root`, is absolute."""
        return str(self.place(root) or self.text)
