"""A file that is named for a result is replaced where it is such a result, and no other file ever is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from perfusion_registry.cli import app
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.workspace import Workspace


@pytest.mark.parametrize(
    ("words", "out", "kind"),
    [
        (["compose", "a teddy in the snow"], "scene.json", "composition"),
        (["covariance", "captions.txt", "--base", "{base}"], "captions.txt", "covariance"),
        (["build", "bear", "--super", "bear=cat"], "kitty.safetensors", "artifact"),
    ],
)
def test_another_file_stays_and_its_own_is_replaced(
    words: list[str], out: str, kind: str, project: Path, tiny_base_folder: Path
) -> None:
    texts = [f"a {one} in a {two}" for one in ("cat", "dog", "pot") for two in ("room", "garden")]
    (project / "captions.txt").write_text("\n".join(texts * 200), encoding="utf-8")
    (project / "scene.json").write_text('{"mine": true}', encoding="utf-8")
    save_file({"weights": np.ones(3)}, project / "kitty.safetensors")  # somebody's LoRA
    with Workspace.open(project) as workspace:
        build(workspace, BuildOptions())
    place, command = project / out, [word.format(base=tiny_base_folder) for word in words]
    before = place.read_bytes()
    refused = CliRunner().invoke(app, [*command, "--out", out])
    assert refused.exit_code == 2, refused.output
    told = " ".join(refused.stderr.split())
    assert f"another file here already, which is no {kind}" in told
    assert "choose another --out" in told
    assert place.read_bytes() == before
    for _ in range(2):  # a new file, and its own
        made = CliRunner().invoke(app, [*command, "--out", f"own-{out}"])
        assert made.exit_code == 0, made.output
    (project / f"empty-{out}").touch()  # as mktemp leaves one
    assert CliRunner().invoke(app, [*command, "--out", f"empty-{out}"]).exit_code == 0
