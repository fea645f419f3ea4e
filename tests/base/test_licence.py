"""What a base's model card says of its licence."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.base import describe_base
from perfusion_registry.base.licence import base_licence

NAMED = "---\nlicense: other\nlicense_name: 'stability 1'\n---\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\nlicense: creativeml-openrail-m\ntags:\n- x\n---\n# Card", "creativeml-openrail-m"),
        ('---\r\ntags: []\r\nlicense: "MIT"\r\n---\r\n', "MIT"),
        (NAMED, "stability 1"),
        ("# Card\nlicense: MIT\n", None),
        ("---\ntags: []\n---\nlicense: MIT\n", None),
        ("---\nlicense:\n- mit\n---\n", None),
        ("---\nlicense: \x1b[31mred\n---\n", None),
        ("", None),
    ],
)
def test_the_front_matter_tells_it(tmp_path: Path, text: str, said: str | None) -> None:
    assert base_licence(tmp_path) is None
    (tmp_path / "README.md").write_bytes(text.encode())
    assert base_licence(tmp_path) == said


def test_the_embedded_base_has_one() -> None:
    assert base_licence(describe_base("storybook").folder) == "apache-2.0"
