"""How a manifest names a base: the embedded one, a model of the Hugging Face Hub at a revision, or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EMBEDDED = "storybook"


@dataclass(frozen=True)
class BaseReference:
    """A parsed base name. It says where to look, not whether anything is there.

    text: as written. kind: which of the three it is. repo: "storybook", "owner/name", or the folder as written.
    revision: a branch, tag or commit of a hub model; None for its default branch, and for the other kinds.
    """

    text: str
    kind: Literal["embedded", "hub", "folder"]
    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, *, where: str | None = None) -> BaseReference:
        """Parse "storybook", "owner/name", "owner/name@revision", "./folder", "../folder" or "/folder".

        where: the file and key path that `text` comes from, for the error.
        Raises PerfError when `text` is none of these.
        """
        raise NotImplementedError
