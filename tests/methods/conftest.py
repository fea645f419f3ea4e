from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.methods.deep import install_deep


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed distributions, one of which brings the method `deep`."""
    folder = tmp_path / "site"
    install_deep(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("perf_deep", None)
