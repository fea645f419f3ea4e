"""The story of a team, with real processes: recipes built and published, shared, yanked, merged with git."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from perfusion_registry.artifact import save_artifact
from perfusion_registry.methods.perfusion.options import Built
from perfusion_registry.operations.publication import concept_release
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.registries.opening import open_registry
from tests.cli.running import git
from tests.cli.studio import MANIFEST, Person, Studio, give_recipe
from tests.compose.samples import artifact
from tests.resolve.registry import release


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The place on a web server of this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_an_author_a_teammate_and_a_third_machine(house: Studio, server: str) -> None:
    # The author publishes 1.0.0, and with another picture 1.1.0.
    author = house.person("author", MANIFEST)
    recipe = give_recipe(author, "teddy")
    author.perf("build")
    author.perf("publish", "teddy")
    Image.new("RGB", (64, 64), (20, 200, 20)).save(author.folder / "recipes" / "teddy" / "2.png")
    recipe.write_text(recipe.read_text().replace('"1.0.0"', '"1.1.0"'))
    assert "cannot be published as it is" in author.perf("publish", "teddy", code=2).err
    author.perf("build")
    author.perf("publish", "teddy")

    # The teammate takes it, locks it and commits.
    team = house.person("team", MANIFEST)
    git(team.folder, "init", "-q", "-b", "main")
    for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
        git(team.folder, "config", key, value)
    team.perf("add", "studio/teddy", "--version", ">=1,<2")
    team.perf("lock")
    assert team.versions() == {"teddy": "1.1.0"}
    git(team.folder, "add", "-A")
    git(team.folder, "commit", "-q", "-m", "teddy")

    # The author clones, syncs and draws: nothing is trained.
    git(house.root, "clone", "-q", "team", "clone")
    clone = Person(house.root / "clone", house.root / "store of the clone")
    assert "Fetched teddy 1.1.0" in clone.perf("sync", "--locked").out
    draw = ("render", "--locked", "--scene", "sailing", "--steps", "1", "--out")
    clone.perf(*draw, "out.png")
    assert not (clone.store / "builds").exists()
    assert clone.blobs() == {read_lockfile(clone.lockfile).concepts[0].sha256}

    # The third machine has an empty folder and an address; its picture is the same.
    third = house.person("third", None)
    third.perf("sync", f"{server}/team/perfusion.lock")
    third.perf("render", "a teddy* sailing", "--steps", "1", "--out", "out.png")
    assert (third.folder / "out.png").read_bytes() == (clone.folder / "out.png").read_bytes()

    # Yanked, 1.1.0 stays where it is locked, and a new lock takes 1.0.0.
    author.perf("yank", "teddy==1.1.0", "--registry", "studio", "--reason", "a wrong ear")
    shutil.rmtree(clone.store)
    clone.perf("sync", "--locked")
    clone.perf(*draw, "again.png")
    assert (clone.folder / "again.png").read_bytes() == (clone.folder / "out.png").read_bytes()
    fresh = house.person("fresh", team.manifest.read_text())
    fresh.perf("lock")
    assert fresh.versions() == {"teddy": "1.0.0"}


def test_branches_that_added_a_concept_each_are_merged_and_healed(
    house: Studio, teddies: tuple[Path, dict[str, Any]], tiny_base: Any
) -> None:
    covariance = teddies[1]["1.0.0"].card.covariance
    for seed, name in enumerate(("teddy", "cup", "hat")):
        built = Built(covariance=covariance, step=100)
        made = artifact(tiny_base, name, "teddy", seed, built=built, licence="CC0-1.0")
        blob = save_artifact(made)
        house.registry.publish(concept_release(made.card, blob), blob)
    team = house.person("team", MANIFEST)
    git(team.folder, "init", "-q", "-b", "main")
    for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
        git(team.folder, "config", key, value)

    def commit(branch: str, name: str) -> None:
        git(team.folder, "checkout", "-q", "-B", branch)
        team.perf("add", f"studio/{name}")
        team.perf("lock")
        git(team.folder, "add", "-A")
        git(team.folder, "commit", "-q", "-m", name)

    commit("main", "teddy")
    commit("cup", "cup")
    git(team.folder, "checkout", "-q", "main")
    commit("hat", "hat")
    git(team.folder, "merge", "-q", "cup", "-m", "both", code=1)  # without the driver, and without care
    assert "<<<<<<<" in team.manifest.read_text()
    assert "<<<<<<<" in team.lockfile.read_text()
    assert "`perf lock` keeps both sides" in team.perf("sync", code=2).err
    said = team.perf("lock")
    assert "it has what both branches added" in said.err
    assert team.versions() == {"cup": "1.0.0", "hat": "1.0.0", "teddy": "1.0.0"}
    team.perf("sync", "--locked")
    assert len(team.blobs()) == 3

    # A line that both changed is nobody's but a person's.
    text = team.manifest.read_text()
    before = 'cup = { version = ">=1.0.0,<2", registry = "studio" }\n'
    assert before in text
    ours, theirs = before.replace("<2", "<3"), before.replace("<2", "<4")
    conflict = f"<<<<<<< ours\n{ours}=======\n{theirs}>>>>>>> theirs\n"
    team.manifest.write_text(text.replace(before, conflict))
    said = team.perf("lock", code=2)
    assert "for you to settle" in said.err
    assert conflict in team.manifest.read_text()


def test_a_name_comes_from_one_registry_whatever_another_has(studio: Studio) -> None:
    """Somebody publishes a `teddy` with a high version where the project also looks."""
    team = studio.person("team")
    team.manifest.write_text(
        team.manifest.read_text()
        .replace("[registries]", '[registries]\nrival = "../rival"')
        .replace("[concepts]", '[concepts]\nteddy = { version = ">=1" }')
    )
    rival = open_registry(str(studio.root / "rival"), name="rival", root=studio.root, cache=studio.root / "k")
    blob = b"another bear"
    rival.publish(release("unlike", "1.0", sha256=hashlib.sha256(blob).hexdigest(), size=len(blob)), blob)
    team.perf("lock")
    assert team.versions() == {"teddy": "2.0.0"}
    text = team.lockfile.read_bytes()

    card = studio.teddies["2.0.0"].card.model_copy(update={"version": "9.0.0"})
    forged = save_artifact(type(studio.teddies["2.0.0"])(card, studio.teddies["2.0.0"].tensors))
    rival.publish(concept_release(card, forged), forged)
    # What is locked from one registry stays with it, even where newer versions are asked for.
    for arguments in ((), ("--upgrade",), ("--upgrade-package", "teddy")):
        team.perf("lock", *arguments)
        assert team.lockfile.read_bytes() == text
    # With no lock to go by, nobody guesses.
    team.lockfile.unlink()
    said = team.perf("lock", code=2)
    assert "The registries `rival` and `studio` both have `teddy`: which one is meant?" in said.err
    assert not team.lockfile.exists()
    assert "which one is meant?" in team.perf("info", "teddy", code=2).err
    # Bound to one by name, it is that one's.
    team.manifest.write_text(
        team.manifest.read_text().replace('version = ">=1" }', 'version = ">=1", registry = "studio" }')
    )
    team.perf("lock")
    assert team.lockfile.read_bytes() == text
    # A pack of the rival's cannot bring its own along under the name.
    pack = release("voyage", "1.0.0", {"teddy": ">=9"}, sha256=hashlib.sha256(b"x").hexdigest(), size=1)
    rival.publish(pack, b"x")
    said = team.perf("add", "rival/voyage", code=2)
    assert "`teddy` would be two concepts of one name" in said.err
    assert "voyage" not in team.manifest.read_text()
    team.perf("sync", "--locked")
    assert team.blobs() == {hashlib.sha256(save_artifact(studio.teddies["2.0.0"])).hexdigest()}


def test_sync_builds_what_only_a_recipe_can_make_when_it_is_asked_to(studio: Studio) -> None:
    team = studio.person("team")
    give_recipe(team, "mug")
    team.perf("add", "studio/teddy", "--version", "==1.1.0")
    said = team.perf("sync")
    assert "Fetched teddy 1.1.0" in said.out
    assert "Not built here: mug. Next: perf build mug" in said.out
    assert len(team.blobs()) == 1
    assert team.perf("sync", "--build", "--dry-run", "--json").json["to_build"] == ["mug"]
    assert len(team.blobs()) == 1
    built = team.perf("sync", "--build", "--json").json
    assert (built["present"], built["to_build"]) == (["mug", "teddy"], [])
    assert len(team.blobs()) == 2
    text = team.lockfile.read_bytes()
    assert team.perf("sync", "--build", "--locked").out == "In sync: 2 concepts\n"
    assert team.lockfile.read_bytes() == text
