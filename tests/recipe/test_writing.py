"""What writing asks of the disk: a machine that loses its power keeps the old file or the new one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perfusion_registry.recipe.writing import create_bytes, replace_bytes, replace_text
from perfusion_registry.trust.key import new_key


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in order."""
    done: list[str] = []

    def sync(file: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        done.append("folder" if path.is_dir() else f"file of {path.stat().st_size}")

    def noting(name: str) -> Callable[..., Any]:
        act = getattr(os, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            return act(*arguments, **options)

        return noted

    monkeypatch.setattr("os.fsync", sync)
    for name in ("replace", "link"):
        monkeypatch.setattr(f"os.{name}", noting(name))
    return done


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks the kernel which file a number is")
def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_before_it_is_told(
    tmp_path: Path, asked: list[str]
) -> None:
    path = tmp_path / "file"
    replace_bytes(path, b"four")
    assert asked == ["file of 4", "replace", "folder"]
    asked.clear()
    assert replace_text(path, "longer")
    assert asked == ["file of 6", "replace", "folder"]
    asked.clear()
    assert not replace_text(path, "longer")
    assert asked == []
    assert create_bytes(tmp_path / "other", b"abc")
    assert asked == ["file of 3", "link", "folder"]
    asked.clear()
    new_key(tmp_path / "key.pem")
    size = (tmp_path / "key.pem").stat().st_size
    assert asked == [f"file of {size}", "link"]
