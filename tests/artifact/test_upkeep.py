"""Looking after the store: counting, verifying, pruning, beside other processes and after kills."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from perfusion_registry.artifact import Store, locking
from perfusion_registry.artifact.disk_usage import disk_usage
from perfusion_registry.artifact.lockfiles import forget_lost, known_lockfiles, locked_digests, note_lockfile
from perfusion_registry.artifact.locking import read_lock, write_lock
from perfusion_registry.artifact.pruning import prune
from perfusion_registry.artifact.verification import verify_store
from perfusion_registry.errors import PerfError
from perfusion_registry.reporter import Silent

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and locks of POSIX")
DAY = 86400.0


def filled(root: Path, count: int = 4) -> tuple[Store, list[str]]:
    """A store of artifacts of 1,000 bytes, the first of them unused for `count` days, the last for one."""
    store, digests = Store(root), []
    for number in range(count):
        digests.append(store.put(b"%04d" % number * 250))
        store.record(f"{number:064x}", digests[-1])
        age(store.path(digests[-1]), count - number)
    return store, digests


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def lockfile(folder: Path, *digests: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "perfusion.lock"
    path.write_text("".join(f'[[concept]]\nsha256 = "{digest}"\n' for digest in digests))
    return path


def test_what_a_known_lockfile_names_stays_until_the_lockfile_is_gone(tmp_path: Path) -> None:
    store, (first, second, third, _) = filled(tmp_path / "store")
    ours, theirs = lockfile(tmp_path / "ours", first), lockfile(tmp_path / "theirs", second)
    for path in (ours, theirs, ours):
        note_lockfile(store.root, path)
    assert known_lockfiles(store.root) == sorted([ours, theirs])
    # A merge left both sides of a conflict: both count.
    ours.write_text(f'<<<<<<<\nsha256 = "{first}"\n=======\nsha256 = "{third}"\n>>>>>>>\n')
    done = prune(store.root)
    assert (len(done.removed), done.locked, done.lockfiles) == (1, 3, (ours, theirs))
    assert [store.has(digest) for digest in (first, second, third)] == [True] * 3
    theirs.unlink()
    prune(store.root)
    assert [store.has(digest) for digest in (first, second, third)] == [True, False, True]
    assert store.lookup(f"{0:064x}") == first


def test_age_and_size_take_the_longest_unused_first(tmp_path: Path) -> None:
    store, digests = filled(tmp_path)
    planned = prune(tmp_path, older_than=2.5 * DAY, dry_run=True)
    assert [one.path.stem for one in planned.removed] == digests[:2]
    assert all(map(store.has, digests))
    for number, digest in enumerate(digests):  # `has` is a use
        age(store.path(digest), 4 - number)
    store.get(digests[0])
    done = prune(tmp_path, max_size=2400)
    assert [one.path.stem for one in done.removed] == digests[1:3]
    assert done.left <= 2400
    assert (store.has(digests[0]), store.has(digests[3])) == (True, True)
    both = prune(tmp_path, older_than=0.5 * DAY, max_size=10**9)
    assert both.removed == ()
    assert len(prune(tmp_path).removed) == 2


def test_prune_removes_what_can_be_made_again_and_nothing_else(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, 1)
    (store.workspace("a" * 64) / "training.safetensors").write_bytes(b"half")
    (tmp_path / "registries").mkdir()
    (tmp_path / "registries" / "teddy").write_text("what a registry said")
    (tmp_path / "something").mkdir()
    (tmp_path / "something" / "else").write_text("of a newer perf")
    forsaken, young = tmp_path / "artifacts" / ".a.tmp", tmp_path / "artifacts" / ".b.tmp"
    forsaken.write_bytes(b"x")
    young.write_bytes(b"x")
    age(forsaken, 1)
    with store.building("a" * 64, "teddy"):
        prune(tmp_path)
        assert (tmp_path / "work" / ("a" * 64) / "training.safetensors").exists()
    prune(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    locks = {"locks/store.lock", f"locks/{'a' * 64}.lock"}
    assert left - locks == {"registries/teddy", "something/else", "artifacts/.b.tmp"}


def test_an_unreadable_lockfile_keeps_everything(tmp_path: Path) -> None:
    store, (digest, *_) = filled(tmp_path / "store")
    path = lockfile(tmp_path / "project", digest)
    note_lockfile(store.root, path)
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path.chmod(0)
    with pytest.raises(PerfError, match="cannot be read, so nothing can be pruned"):
        prune(store.root)
    assert store.has(digest)


def test_notes_survive_strange_paths_and_damage(tmp_path: Path) -> None:
    strange = tmp_path / "a\nb 'é"
    path = lockfile(strange, "b" * 64)
    note_lockfile(tmp_path / "store", path)
    for content in (b"", b"\0", b"relative/perfusion.lock", b"\xff" * 9000):
        (tmp_path / "store" / "projects" / hashlib.sha256(content).hexdigest()).write_bytes(content)
    assert known_lockfiles(tmp_path / "store") == [path]
    assert locked_digests(tmp_path / "store") == {"b" * 64}
    for note in (tmp_path / "store" / "projects").iterdir():
        age(note, 2)
    forget_lost(tmp_path / "store")
    assert len(list((tmp_path / "store" / "projects").iterdir())) == 1


def test_the_census_counts_every_file_once(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    (store.workspace("a" * 64) / "training.safetensors").write_bytes(b"half")
    counts = {count.kind: (count.files, count.size) for count in disk_usage(tmp_path)}
    assert counts["artifacts"] == (4, 4000)
    assert counts["builds"] == (4, 4 * 65)
    assert counts["work"] == (1, 4)
    assert sum(files for files, _ in counts.values()) == 9
    assert all(files == 0 for files, _ in ((c.files, c.size) for c in disk_usage(tmp_path / "nowhere")))


def test_verify_finds_every_kind_of_damage_and_sets_it_aside(tmp_path: Path) -> None:
    store, digests = filled(tmp_path)
    store.path(digests[0]).write_bytes(b"short")
    flipped = bytearray(store.path(digests[1]).read_bytes())
    flipped[500] ^= 1
    store.path(digests[1]).write_bytes(flipped)
    (tmp_path / "artifacts" / "stray").write_bytes(b"x")
    (tmp_path / "builds" / "00" / f"{2:064x}").write_bytes(b"nonsense")
    seen = verify_store(tmp_path, dry_run=True)
    assert (seen.artifacts, seen.records, len(seen.damaged)) == (5, 4, 4)
    assert all(damage.quarantine is None for damage in seen.damaged)
    found = verify_store(tmp_path)
    assert {damage.path for damage in found.damaged} == {damage.path for damage in seen.damaged}
    assert all(damage.quarantine and damage.quarantine.is_file() for damage in found.damaged)
    assert verify_store(tmp_path).damaged == ()
    assert store.put(b"0000" * 250) == digests[0]
    assert [store.has(digest) for digest in digests] == [True, False, True, True]


def test_every_single_byte_flip_of_an_artifact_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    data = random.Random(0).randbytes(300)
    digest = store.put(data)
    for place in range(len(data)):
        store.path(digest).write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        assert not store.has(digest)
        assert len(verify_store(tmp_path, dry_run=True).damaged) == 1


class Warnings(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def warn(self, text: str) -> None:
        self.told.append(text)


def program(text: str, *arguments: str) -> list[str]:
    head = (
        "import sys, time; from pathlib import Path; from perfusion_registry.artifact import Store\n"
        "from perfusion_registry.artifact.locking import read_lock, write_lock\n"
        "from perfusion_registry.artifact.pruning import prune\n"
        "root = Path(sys.argv[1]); store = Store(root)\n"
    )
    return [sys.executable, "-c", head + text, *arguments]


@posix
@pytest.mark.parametrize("end", ["kill", "leave"])
def test_pruning_waits_for_those_who_use_the_store_and_a_death_ends_the_wait(
    tmp_path: Path, end: str
) -> None:
    _, digests = filled(tmp_path)
    text = (
        f"with read_lock(root):\n    print('held', flush=True)\n    time.sleep({60 if end == 'kill' else 1})"
    )
    warnings = Warnings()
    with subprocess.Popen(program(text, str(tmp_path)), stdout=subprocess.PIPE, cwd=ROOT) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"held\n"
        with read_lock(tmp_path, warnings):  # users do not wait for each other
            assert warnings.told == []
        assert len(prune(tmp_path, dry_run=True, reporter=warnings).removed) == len(digests)
        assert warnings.told == []
        if end == "kill":
            threading.Timer(0.5, user.kill).start()
        done = prune(tmp_path, reporter=warnings)
    assert len(done.removed) == len(digests)
    (told,) = warnings.told
    assert "another process is using the store" in told


def test_who_uses_the_store_does_not_wait_for_itself(tmp_path: Path) -> None:
    with read_lock(tmp_path):
        with read_lock(tmp_path):
            pass
        with pytest.raises(PerfError, match="would wait for itself"), write_lock(tmp_path):
            pass
        assert prune(tmp_path, dry_run=True).removed == ()
    with write_lock(tmp_path):  # and not when it is done
        pass


@posix
def test_users_wait_while_one_process_has_the_store_alone(tmp_path: Path) -> None:
    text = "with write_lock(root):\n    print('held', flush=True)\n    time.sleep(1)"
    warnings = Warnings()
    with subprocess.Popen(program(text, str(tmp_path)), stdout=subprocess.PIPE, cwd=ROOT) as pruner:
        assert pruner.stdout is not None
        pruner.stdout.readline()
        begun = time.monotonic()
        with read_lock(tmp_path, warnings):
            assert time.monotonic() - begun > 0.5
    assert len(warnings.told) == 1
    with write_lock(tmp_path, warnings):
        assert len(warnings.told) == 1


HOLDERS = {  # what stands for shared locks where the kernel has none, and a death that lets go
    "one_slot": "with locking.one_slot(root, print): print('held', flush=True); time.sleep(60)",
    "every_slot": "with locking.every_slot(root, print): print('held', flush=True); time.sleep(60)",
}


@pytest.mark.parametrize(
    ("holder", "wanted", "waits"),
    [("one_slot", "one_slot", False), ("one_slot", "every_slot", True), ("every_slot", "one_slot", True)],
)
def test_slots_are_shared_by_users_and_taken_by_one_alone(
    tmp_path: Path, holder: str, wanted: str, waits: bool
) -> None:
    told: list[str] = []
    head = "import sys, time; from pathlib import Path; from perfusion_registry.artifact import locking\n"
    text = f"{head}root = Path(sys.argv[1])\n{HOLDERS[holder]}"
    command = [sys.executable, "-c", text, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"

        def wait() -> None:
            told.append("waits")
            other.kill()

        with getattr(locking, wanted)(tmp_path, wait):
            assert waits or other.poll() is None
        other.kill()
    assert told == ["waits"] * waits


def test_more_users_than_slots_take_turns(tmp_path: Path) -> None:
    full, told = threading.Event(), []

    def crowd() -> None:
        with ExitStack() as held:
            for _ in range(locking.SLOTS):
                held.enter_context(locking.one_slot(tmp_path, lambda: told.append("crowded")))
            full.set()
            time.sleep(0.3)

    thread = threading.Thread(target=crowd)
    thread.start()
    assert full.wait(30)
    with locking.one_slot(tmp_path, lambda: told.append("waits")):
        assert told == ["waits"]
    thread.join()
    with locking.every_slot(tmp_path, lambda: told.append("waits again")):
        assert told == ["waits"]


@pytest.mark.slow
@posix
def test_a_killed_prune_leaves_a_whole_store_and_the_next_one_finishes(tmp_path: Path) -> None:
    """Ten kills at random moments of a prune of 60 artifacts, a third of which a lockfile names."""
    chance = random.Random(7)
    store, root = Store(tmp_path / "store"), tmp_path / "store"
    digests = [hashlib.sha256(b"%05d" % number * 60).hexdigest() for number in range(60)]
    path = lockfile(tmp_path / "project", *digests[::3])
    note_lockfile(root, path)
    for _ in range(10):
        for number in range(60):
            store.put(b"%05d" % number * 60)
        text = "print('go', flush=True); prune(root)"
        with subprocess.Popen(program(text, str(root)), stdout=subprocess.PIPE, cwd=ROOT) as pruner:
            assert pruner.stdout is not None
            pruner.stdout.readline()
            time.sleep(chance.uniform(0, 0.02))
            pruner.kill()
        assert verify_store(root).damaged == ()
        assert all(map(store.has, digests[::3]))
    prune(root)
    assert [store.has(digest) for digest in digests] == [number % 3 == 0 for number in range(60)]
    assert list((root / "trash").iterdir()) == []
