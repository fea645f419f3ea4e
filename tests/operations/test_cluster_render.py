"""Lists of prompts that another machine draws, to the files of this one alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from perfusion_registry import render
from perfusion_registry.artifact import Store
from perfusion_registry.cluster import pool, shared_store
from perfusion_registry.cluster.address import ClusterAddress
from perfusion_registry.cluster.driver import Event
from perfusion_registry.cluster.tasks import Order
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.cluster_render import DrawingTask
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.job import RenderOverrides
from perfusion_registry.operations.prompt_list import PromptLine, PromptList
from perfusion_registry.operations.render import RenderListOptions, render_list
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.render import metadata
from perfusion_registry.render.request import RenderRequest
from tests.cluster.in_process import other_machine

CPU = ComputeOptions("cpu", threads=1)
LINES = ("a bear* at sea --seed 1-3", "a bear* at night", "a bear* at night", "a plain picture")
FEW = RenderOverrides(steps=2, width=64, height=64, batch=2)


def draw(
    out: str,
    cluster: ClusterAddress | None,
    lines: tuple[str, ...] = LINES,
    overrides: RenderOverrides = FEW,
    sheet: str | None = None,
) -> dict[str, bytes]:
    listed = tuple(PromptLine(f"prompts.txt:{number}", line) for number, line in enumerate(lines, start=1))
    prompts = PromptList(lines=listed, name="prompts.txt", compute=CPU)
    where = Path(sheet) if sheet else None
    options = RenderListOptions(
        prompts=prompts, overrides=overrides, out=Path(out), cluster=cluster, sheet=where
    )
    with Workspace.open() as workspace:
        render_list(workspace, options)
    return {path.name: path.read_bytes() for path in Path(out).iterdir()}


@pytest.fixture
def built(project: Path) -> Path:
    """The project with its concept."""
    with Workspace.open() as workspace:
        build(workspace, BuildOptions(compute=CPU))
    return project


def test_lines_that_ask_for_the_same_are_drawn_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = draw("here", None)
    assert len(wanted) == 6
    machine = other_machine(built / "other", monkeypatch)
    assert draw("there", machine.address) == wanted
    assert machine.did == ["a bear* at sea", "a bear* at sea", "a bear* at night", "a plain picture"]
    assert not list((built / "store" / "work").iterdir())


def test_what_is_drawn_already_keeps_its_name_whatever_drew_it(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, record = other_machine(built / "other", monkeypatch), metadata.record

    def on_a_gpu(*of: Any) -> metadata.RenderRecord:
        return record(*of).model_copy(update={"device": "cuda"})

    def drive(ray: None, order: Order, *, local: bool = False) -> Iterator[Event]:
        with monkeypatch.context() as patch:
            patch.setattr(render.draw, "record", on_a_gpu)
            events = list(machine.drive(ray, order))
        yield from events

    monkeypatch.setattr(pool, "drive", drive)
    first = draw("out", machine.address)
    assert draw("out", machine.address) == first
    assert len(machine.did) == 4


def test_a_picture_that_is_drawn_from_is_sent_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines and batches are drawn from it, and however small the pieces of a shared file."""
    monkeypatch.setattr(shared_store, "PIECE", 20_000)
    noise = Image.effect_noise((256, 256), 90).convert("RGB")
    noise.save("start.png")
    from_it = RenderOverrides(steps=4, width=64, height=64, image=Path("start.png"), strength=0.5)
    wanted = draw("here", None, overrides=from_it)
    machine = other_machine(built / "other", monkeypatch)
    sent: list[int] = []
    drive = machine.drive

    def noted(ray: None, order: Order, *, local: bool = False) -> Iterator[Event]:
        sent.append(sum(len(packed) for _, packed in order.tasks))
        return drive(ray, order)

    monkeypatch.setattr(pool, "drive", noted)
    assert draw("there", machine.address, overrides=from_it) == wanted
    assert sent[0] < len(noise.tobytes())


def test_pictures_that_are_damaged_or_gone_are_drawn_again_or_told(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = other_machine(built / "other", monkeypatch)
    wanted = draw("out", machine.address)
    store = Store(built / "store")
    for record in (built / "other" / "shared" / "results").glob("*/*"):
        (store.workspace(record.name) / DrawingTask.FILE).write_bytes(b"PK, damaged")
    assert draw("again", machine.address) == wanted
    request = RenderRequest(width=64, height=64)
    task = DrawingTask("a" * 64, "a cat", 0, 0, None, request, {})  # type: ignore[arg-type]
    with pytest.raises(PerfError, match="the pictures of `a cat` are drawn, and are gone"):
        task.unpacked("", store)


def test_where_nothing_can_be_written_nothing_is_drawn(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = other_machine(built / "other", monkeypatch)
    (built / "taken").write_bytes(b"a file")
    with pytest.raises(PerfError, match="cannot write"):
        draw("taken/pictures", machine.address)
    with pytest.raises(PerfError, match="cannot write"):
        draw("out", machine.address, sheet="taken/sheet.png")
    assert machine.did == []
