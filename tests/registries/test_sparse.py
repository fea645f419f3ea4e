"""The sparse registry in a folder: whole outcomes, races, kills, damage and rollbacks."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.registries import AlreadyPublishedError, CatalogueEntry, RegistryError
from perfusion_registry.registries.index import read_index
from perfusion_registry.registries.sparse import blob_key
from tests import forked
from tests.registries.samples import ROOT, folder_registry, program, release


def told(root: Path, name: str = "teddy") -> list[tuple[str, bool]]:
    listings = folder_registry(root).versions(name)
    return [(one.release.version, one.yanked) for one in listings]


def test_the_life_of_a_concept(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    assert registry.publish(release("1.10.0", b"b"), b"b")
    assert registry.publish(release("1.9.0", b"a"), b"a")
    assert registry.publish(release("1.0.0", b"c", name="cat"), b"c")
    assert told(tmp_path / "r") == [("1.9.0", False), ("1.10.0", False)]
    assert b"".join(registry.blob(release("1.9.0", b"a"))) == b"a"
    assert registry.catalogue() == (
        CatalogueEntry("cat", "1.0.0", "concept", "teddy", "A bear with one ear"),
        CatalogueEntry("teddy", "1.10.0", "concept", "teddy", "A bear with one ear"),
    )
    assert registry.yank("teddy", "1.10", reason="a wrong ear")
    assert not registry.yank("teddy", "1.10.0")
    assert registry.versions("teddy")[1].reason == "a wrong ear"
    assert registry.catalogue()[1].version == "1.9.0"
    assert b"".join(registry.blob(release("1.10.0", b"b"))) == b"b"
    assert registry.unyank("teddy", "1.10.0")
    assert not registry.unyank("teddy", "1.10.0")
    assert told(tmp_path / "r") == [("1.9.0", False), ("1.10.0", False)]
    assert registry.versions("dog") == ()


def test_a_published_version_never_changes(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    assert registry.publish(release(), b"bear")
    before = sorted((path, path.read_bytes()) for path in (tmp_path / "r").rglob("*") if path.is_file())
    assert not registry.publish(release(), b"bear")
    for version in ("1.0.0", "1.0", "1"):
        with pytest.raises(AlreadyPublishedError) as caught:
            registry.publish(release(version, b"other"), b"other")
        assert release().sha256 in caught.value.what
        assert release(version, b"other").sha256 in caught.value.what
    with pytest.raises(AlreadyPublishedError, match="another description, licence"):
        registry.publish(release(description="Another", licence="CC0"), b"bear")
    after = sorted((path, path.read_bytes()) for path in (tmp_path / "r").rglob("*") if path.is_file())
    assert before == after


def test_bytes_that_are_not_the_releases_are_not_published(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    for blob in (b"cat!", b"", b"bear "):
        with pytest.raises(RegistryError, match="not those of its release"):
            registry.publish(release(), blob)
    with pytest.raises(RegistryError, match="description of itself"):
        registry.publish(release(authors=("a" * 4000,) * 20), b"bear")
    assert not (tmp_path / "r").exists()


def test_versions_that_never_were_cannot_be_yanked(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    registry.publish(release(), b"bear")
    for work in (registry.yank, registry.unyank):
        with pytest.raises(RegistryError, match=r"never published here; there are: 1\.0\.0"):
            work("teddy", "2.0.0")
    with pytest.raises(RegistryError, match="1000 are allowed"):
        registry.yank("teddy", "1.0.0", reason="x" * 1001)


def test_where_there_is_no_registry_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no registry here"):
        folder_registry(tmp_path / "nowhere").versions("teddy")
    assert not (tmp_path / "nowhere").exists()
    for marker, said in (
        (b"{}", "malformed"),
        (b"\xff" * 10, "malformed"),
        (b'{"format":2,"name":"x"}', "format 2"),
        (b"x" * 10_000, "10,000 bytes"),
    ):
        (tmp_path / "odd").mkdir(exist_ok=True)
        (tmp_path / "odd" / "perf-registry.json").write_bytes(marker)
        with pytest.raises(RegistryError, match=said):
            folder_registry(tmp_path / "odd").versions("teddy")


@pytest.mark.parametrize("name", ["Teddy", "teddу", "../teddy", "/etc/passwd", "con", "te ddy", ""])
def test_what_is_no_name_is_refused_before_a_file_is_touched(tmp_path: Path, name: str) -> None:
    registry = folder_registry(tmp_path / "r")
    registry.publish(release(), b"bear")
    files = sorted(tmp_path.rglob("*"))
    for work in (
        lambda: registry.versions(name),
        lambda: registry.yank(name, "1.0.0"),
        lambda: registry.publish(release().model_copy(update={"name": name}), b"bear"),
    ):
        with pytest.raises(PerfError, match="name"):
            work()
    assert sorted(tmp_path.rglob("*")) == files
    with pytest.raises(RegistryError, match="not a SHA-256"):
        registry.blob(release().model_copy(update={"sha256": "../" + "a" * 61}))


def test_folded_names_are_one_name(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    registry.publish(release(name="blue_pot"), b"bear")
    once, again = (tuple(registry.versions(name)) for name in ("blue-pot", "blue__pot"))
    assert once == again != ()


def test_a_damaged_blob_is_mended_by_the_next_publication_of_its_bytes(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    place = tmp_path / "r" / blob_key(release().sha256)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"beat")
    assert registry.publish(release(), b"bear")
    assert place.read_bytes() == b"bear"


def test_an_index_that_went_back_was_rewritten_or_is_gone_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "r"
    registry = folder_registry(root)
    index = root / "index" / "te" / "teddy.jsonl"
    registry.publish(release("1.0.0"), b"bear")
    old = index.read_bytes()
    registry.publish(release("1.1.0", b"new"), b"new")
    registry.yank("teddy", "1.1.0")
    assert len(folder_registry(root).versions("teddy")) == 2
    whole = index.read_bytes()

    index.write_bytes(old)
    for client in (registry, folder_registry(root)):
        with pytest.raises(RegistryError, match="rolled back") as caught:
            client.versions("teddy")
        assert str(tmp_path / "cache") in str(caught.value)
        with pytest.raises(RegistryError, match="rolled back"):
            client.publish(release("1.2.0", b"next"), b"next")
    index.unlink()
    with pytest.raises(RegistryError, match="rolled back"):
        folder_registry(root).versions("teddy")
    other = folder_registry(tmp_path / "other")
    other.publish(release("1.0.0"), b"bear")
    other.publish(release("1.1.0", b"evil"), b"evil")
    shutil.copy(tmp_path / "other" / "index" / "te" / "teddy.jsonl", index)
    with pytest.raises(RegistryError, match="rewritten"):
        folder_registry(root).versions("teddy")
    # Who has never seen it cannot know; what was seen is good again when it is back.
    assert len(folder_registry(root, cache=tmp_path / "fresh").versions("teddy")) == 2
    index.write_bytes(whole)
    assert told(root) == [("1.0.0", False), ("1.1.0", True)]


def test_a_damaged_memory_is_no_memory(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    registry.publish(release(), b"bear")
    registry.versions("teddy")
    (memory,) = (tmp_path / "cache").rglob("teddy.jsonl")
    for damaged in (b"", b"{}\n", b"[" * 100_000, memory.read_bytes()[:-3], b'{"sha256":1,"tag":2}\nx'):
        memory.write_bytes(damaged)
        assert told(tmp_path / "r") == [("1.0.0", False)]
        assert memory.read_bytes() != damaged


def test_folders_of_one_name_in_two_projects_are_two_registries(tmp_path: Path) -> None:
    from perfusion_registry.registries.opening import open_registry

    for project, blob in (("a", b"bear"), ("b", b"cat!")):
        registry = open_registry("shared", name="r", root=tmp_path / project, cache=tmp_path / "cache")
        registry.publish(release("1.0.0", blob), blob)
        assert registry.versions("teddy")[0].release.sha256 == release("1.0.0", blob).sha256
        assert registry.url == "shared"


def test_a_catalogue_is_derived_and_mends_itself(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    registry.publish(release(), b"bear")
    registry.publish(release(name="cat", description="x" * 3000), b"bear")
    assert len(registry.catalogue()[0].description or "") == 400
    place = tmp_path / "r" / "catalogue.jsonl"
    place.write_bytes(b'{"name":"Evil","version":"1"}\n' + place.read_bytes())
    with pytest.raises(RegistryError, match="catalogue is malformed"):
        folder_registry(tmp_path / "r").catalogue()
    registry.publish(release("1.1.0"), b"bear")
    assert [(one.name, one.version) for one in registry.catalogue()] == [("cat", "1.0.0"), ("teddy", "1.1.0")]
    for version in ("1.0.0", "1.1.0"):
        registry.yank("teddy", version)
    assert [one.name for one in registry.catalogue()] == ["cat"]


PUBLISH = """
import time
blob = sys.argv[2].encode()
registry = folder_registry(Path(sys.argv[1]), cache=Path(sys.argv[1]).with_name("cache-" + sys.argv[2]))
time.sleep(max(0, float(sys.argv[3]) - time.time()))
try:
    print("won" if registry.publish(release("1.0.0", blob), blob) else "same")
except AlreadyPublishedError as error:
    print("told" if release("1.0.0", blob).sha256 in error.what else error)
"""


def test_of_publishers_of_one_version_exactly_one_wins(tmp_path: Path) -> None:
    start = str(time.time() + 1)
    runs = [
        forked.Popen(
            program(PUBLISH, str(tmp_path / "r"), str(number), start),
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(6)
    ]
    said = sorted(run.communicate()[0].strip() for run in runs)
    assert said == ["told"] * 5 + ["won"]
    (listing,) = folder_registry(tmp_path / "r").versions("teddy")
    assert b"".join(folder_registry(tmp_path / "r").blob(listing.release)).isdigit()


ENDLESS = """
registry = folder_registry(Path(sys.argv[1]))
begun = len(registry.versions("teddy")) if Path(sys.argv[1], "perf-registry.json").exists() else 0
print("begun", flush=True)
for number in range(begun, 10**6):
    blob = b"%d" % number * 2000
    registry.publish(release(f"1.{number}", blob), blob)
"""


@pytest.mark.slow
def test_publishers_that_are_killed_leave_a_whole_registry_and_no_lock(tmp_path: Path) -> None:
    root, rng = tmp_path / "r", random.Random(0)
    for _ in range(4):
        with subprocess.Popen(program(ENDLESS, str(root)), stdout=subprocess.PIPE, cwd=ROOT) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == b"begun\n"
            time.sleep(rng.uniform(0, 0.4))
            run.kill()
        begun = time.monotonic()
        registry = folder_registry(root)
        for path in root.rglob("*.jsonl"):
            if path.name == "teddy.jsonl":
                read_index(path.read_bytes(), "teddy", str(path))
        if (root / "perf-registry.json").exists():
            for one in registry.versions("teddy"):
                assert len(b"".join(registry.blob(one.release))) == one.release.size
        registry.publish(release("0.1"), b"bear")
        registry.yank("teddy", "0.1")
        registry.unyank("teddy", "0.1")
        assert time.monotonic() - begun < 30
    assert len(told(root)) > 1
