"""What a base says of itself in `perf-base.toml`: its defaults and the names of its side files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from perfusion_registry.errors import PerfError

CARD_FILE = "perf-base.toml"


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError("must be a path within the base's folder")
    return name


class BaseCard(BaseModel):
    """The optional `perf-base.toml` of a base folder.

    train, render: defaults that replace the paper's and that a recipe replaces; keys as in a recipe's
    tables, and for render also steps, guidance, width and height. clip: the subfolder of the CLIP model that
    scores pictures. covariance: the file of the covariance that ships with the base.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: dict[str, Any] = {}
    render: dict[str, Any] = {}
    clip: Annotated[str, AfterValidator(_inside)] = "clip"
    covariance: Annotated[str, AfterValidator(_inside)] = "covariance.safetensors"

    def with_defaults(self, render: Mapping[str, Any]) -> BaseCard:
        """The card with other defaults for pictures, where there are any."""
        return self.model_copy(update={"render": {**self.render, **render}}) if render else self

    @classmethod
    def read(cls, folder: Path) -> BaseCard:
        """The card in `folder`, or an empty one. Raises PerfError for a card that cannot be read."""
        return read_beside(folder / CARD_FILE, cls, "card")


M = TypeVar("M", bound=BaseModel)


def read_beside(path: Path, model: type[M], called: str) -> M:
    """A TOML file beside a base, all of whose keys have defaults; without the file, these. called: what it is
    to the base, in errors. Raises PerfError for a file that cannot be read, or has mistakes."""
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return model()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PerfError(f"the base's {called} cannot be read: {error}", where=str(path)) from error
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise PerfError(
            f"the base's {called} is not valid: {'; '.join(mistakes)}", where=str(path)
        ) from error
