"""What tasks are made of, brought to a machine that has none of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.base import describe_base, load_base
from perfusion_registry.base.embedded import editions
from perfusion_registry.cluster.inputs import Packing, unpack
from perfusion_registry.cluster.shared_store import SharedStore
from perfusion_registry.errors import PerfError
from tests.editions import install_edition
from tests.tiny import save_tiny_base


def test_a_base_travels_by_its_content(tmp_path: Path) -> None:
    folder = save_tiny_base(tmp_path / "here" / "base")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    (folder / "unet" / "pickled.bin").write_bytes(b"which no base is made of")
    picture = tmp_path / "here" / "1.png"
    picture.write_bytes(b"a picture")
    base, shared = describe_base(str(folder)), SharedStore(str(tmp_path / "shared"))
    here, there = Store(tmp_path / "a"), Store(tmp_path / "b")
    packed = Packing(shared, here, [base]).pack({"base": base, "images": [picture, picture], "store": here})
    shutil.rmtree(tmp_path / "here")

    found = unpack(packed, shared, there)
    assert found["store"] is there
    assert [path.read_bytes() for path in found["images"]] == [b"a picture"] * 2
    assert found["base"].digest == base.digest
    assert found["base"].licence == "mit"
    assert describe_base(str(found["base"].folder)).digest == base.digest
    assert not list(found["base"].folder.rglob("*.bin"))
    load_base(found["base"], device="cpu")

    shutil.rmtree(tmp_path / "shared")  # and is fetched once
    assert unpack(packed, shared, there)["base"].folder == found["base"].folder


def test_the_embedded_base_is_everywhere_already(tmp_path: Path) -> None:
    base, shared = describe_base("storybook"), SharedStore(str(tmp_path / "shared"))
    packed = Packing(shared, Store(tmp_path / "a"), [base]).pack(base)
    assert unpack(packed, shared, Store(tmp_path / "b")).folder == base.folder
    assert not (tmp_path / "shared").exists()


def test_another_edition_of_the_embedded_base_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, shared = describe_base("storybook"), SharedStore(str(tmp_path / "shared"))
    packed = Packing(shared, Store(tmp_path / "a"), [base]).pack(base)
    install_edition(tmp_path, monkeypatch, "9.0.0")
    with pytest.raises(PerfError, match="has perfusion-storybook 9") as refused:
        unpack(packed, shared, Store(tmp_path / "b"))
    assert "pip install --force-reinstall perfusion-storybook" in (refused.value.hint or "")


def test_other_files_of_the_same_edition_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where somebody trains one: every picture would be another."""
    base, shared = describe_base("storybook"), SharedStore(str(tmp_path / "shared"))
    packed = Packing(shared, Store(tmp_path / "a"), [base]).pack(base)
    version = editions()[-1].version
    other = install_edition(tmp_path, monkeypatch, version)
    with pytest.raises(PerfError, match=f"has perfusion-storybook {version}") as refused:
        unpack(packed, shared, Store(tmp_path / "b"))
    assert other[:16] in refused.value.what
    assert base.digest[:16] in refused.value.what


@pytest.mark.parametrize("alone", [True, False])
def test_paths_stay_paths_where_machines_see_one_disk(tmp_path: Path, alone: bool) -> None:
    path = tmp_path if alone else tmp_path / "nothing"
    store = Store(tmp_path / "store")
    assert unpack(Packing(None, store, []).pack([path, store.root]), None, store) == [path, store.root]
