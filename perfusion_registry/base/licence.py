"""The licence of a base, as the model card beside its weights tells it."""

from __future__ import annotations

import re
from pathlib import Path

_LARGEST_CARD = 1024 * 1024
_SAID = r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,99}?"
_LICENCE = re.compile(rf"^license(?P<kind>_name)?:[ \t]*[\"']?(?P<said>{_SAID})[\"']?[ \t]*$", re.MULTILINE)


def base_licence(folder: Path) -> str | None:
    """`license` of the front matter of `README.md`, as on the Hugging Face Hub; None where nothing is said.

    `license_name` is preferred, since `license` then only says `other`.
    """
    try:
        with (folder / "README.md").open("rb") as file:
            text = file.read(_LARGEST_CARD).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return None
    if not text.startswith("---\n"):
        return None
    front = text[4:].partition("\n---")[0]
    lines = {bool(match["kind"]): match["said"] for match in _LICENCE.finditer(front)}
    return lines.get(True) or lines.get(False)
