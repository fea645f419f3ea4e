"""Another edition of Storybook, as an installed distribution would have it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from perfusion_registry.base import describe_base
from perfusion_registry.base.embedded import PACKAGE, distribution_folder, editions


def install_edition(
    place: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, other_family: bool = False
) -> str:
    """Have Python find, for the rest of the test, an edition with another card in `place`, and return its
    digest. It knows the editions that the one before knew.

    other_family: its text encoder is another too.
    """
    before, known = distribution_folder(), editions()
    package = place / PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")
    for path in sorted((before / "weights").rglob("*")):
        copy = package / path.relative_to(before)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "perf-base.toml":
            copy.write_text(path.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")
        elif other_family and path.parent.name == "text_encoder" and path.suffix == ".safetensors":
            save_file({name: tensor * 2 for name, tensor in load_file(path).items()}, copy)
        elif path.is_file():
            copy.symlink_to(path)
    there = describe_base(str(package / "weights"))
    rows = [*((one.version, one.digest, one.family) for one in known), (version, there.digest, there.family)]
    text = "".join(
        f'[[edition]]\nversion = "{said}"\ndigest = "{digest}"\nfamily = "{family}"\n'
        for said, digest, family in rows
    )
    (package / "editions.toml").write_text(text, encoding="utf-8")
    monkeypatch.delitem(sys.modules, PACKAGE)
    monkeypatch.syspath_prepend(str(place))
    return there.digest
