"""The story of an author, a teammate and a third machine, told with real processes over a folder registry."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator

import pytest

from perfusion_registry.artifact import save_artifact
from perfusion_registry.operations.publication import concept_release
from perfusion_registry.operations.yanked import index_files
from perfusion_registry.recipe import read_lockfile
from tests.cli.studio import Studio


def test_the_same_picture_on_three_machines(studio: Studio) -> None:
    team = studio.person("team")
    assert "at present 1.1.0" in team.perf("add", "studio/teddy", "--version", ">=1,<2").out
    assert 'teddy = { version = ">=1,<2", registry = "studio" }' in team.manifest.read_text()
    team.perf("lock")
    text = team.lockfile.read_bytes()
    assert team.versions() == {"teddy": "1.1.0"}
    assert str(studio.root).encode() not in text
    team.perf("lock")
    assert team.lockfile.read_bytes() == text
    assert team.blobs() == set()

    # The author clones. Nothing is trained, and the lockfile stays as it was.
    author = studio.person("author", team.manifest.read_text())
    shutil.copy(team.lockfile, author.lockfile)
    assert "Fetched teddy 1.1.0" in author.perf("sync", "--locked").out
    assert author.lockfile.read_bytes() == text
    draw = ("render", "--scene", "sailing", "--steps", "1", "--out", "out.png")
    author.perf(*draw)

    # Yanked, the version still works where it is locked; a new lock takes the one before.
    studio.registry.yank("teddy", "1.1.0", reason="a wrong ear")
    assert json.loads(team.perf("list", "--json").out)["concepts"][0]["supercategory"] == ""  # not here yet
    team.perf("sync", "--frozen")
    assert json.loads(team.perf("list", "--json").out)["concepts"][0]["supercategory"] == "teddy"
    assert team.blobs() == author.blobs()
    assert "teddy    1.1.0 (yanked)" in team.perf("list", "--outdated").out
    assert json.loads(team.perf("list", "--json").out)["concepts"][0]["state"] == "fetched, yanked"
    (index,) = index_files(author.folder, read_lockfile(author.lockfile).concepts)  # ends an instant sync
    assert "a wrong ear" in index.read_text(encoding="utf-8")
    told = author.perf("sync", "--locked").err
    assert told.count("teddy 1.1.0 is yanked (a wrong ear)") == 1
    assert "`perf lock --upgrade-package teddy` takes another version" in told
    asked = studio.person("asked")
    refused = asked.perf("add", "studio/teddy", "--version", "==1.1.0", code=2).err
    assert "1.1.0: yanked (a wrong ear)" in refused
    assert "`perf unyank` shows it again" in refused
    assert "composes with this base" not in refused
    team.perf("lock", "--check")
    fresh = studio.person("fresh", team.manifest.read_text())
    fresh.perf("lock")
    assert fresh.versions() == {"teddy": "1.0.0"}

    # At another depth its relative registry leads elsewhere, and it is said where to.
    deep = studio.person("deep", None)
    (deep.folder / "er").mkdir()
    shutil.copy(team.lockfile, deep.folder / "er" / "perfusion.lock")
    lost = " ".join(deep.perf("sync", "er/perfusion.lock", code=2).err.split())
    assert f"at ../registry, which is {(deep.folder / 'registry').resolve()} " in lost
    assert "name a lockfile where it was made" in lost

    # The third machine has the lockfile alone.
    third = studio.person("third", None, executed=True)
    said = third.perf("sync", "../team/perfusion.lock").out
    assert "Wrote perfusion.lock; the concepts are in the store of this machine, " in said
    assert third.lockfile.read_bytes() == text
    assert third.blobs() == author.blobs()
    third.perf("render", "a teddy* sailing", "--steps", "1", "--out", "out.png")
    assert (third.folder / "out.png").read_bytes() == (author.folder / "out.png").read_bytes()


def test_locked_frozen_and_offline_do_what_they_say(studio: Studio) -> None:
    team = studio.person("team")
    team.perf("sync", "--frozen", code=1)
    team.perf("add", "studio/teddy", "--version", "<2")
    assert "`teddy` is not locked yet" in team.perf("sync", "--locked", code=1).err
    assert not team.lockfile.exists()
    team.perf("sync")
    manifest = team.manifest
    manifest.write_text(manifest.read_text().replace('"<2"', '">=2"'))
    said = team.perf("lock", "--check", code=1)
    assert "`teddy` is locked at 1.1.0, and perfusion.toml, concepts.teddy asks for >=2" in said.err
    for command in (("lock",), ("sync",), ("build",)):
        assert "is locked at 1.1.0" in team.perf(*command, code=1, PERF_LOCKED="1").err
    text = team.lockfile.read_bytes()
    team.perf("sync", PERF_FROZEN="1")
    team.perf("lock", "--frozen")
    assert team.lockfile.read_bytes() == text
    assert team.perf("sync", "--dry-run").out.startswith("Would change perfusion.lock:")
    assert team.lockfile.read_bytes() == text
    assert "  ~ teddy 1.1.0 -> 2.0.0\n" in team.perf("lock").out
    assert team.versions() == {"teddy": "2.0.0"}
    manifest.write_text(manifest.read_text().replace("../registry", "https://studio.invalid/"))
    said = team.perf("lock", code=2, PERF_OFFLINE="1")
    assert "needs the network, and perf is working offline" in said.err


def test_prompts_are_composed_from_a_lockfile_that_is_as_it_was_asked_to_be(studio: Studio) -> None:
    team = studio.person("team")
    prompt = "a teddy* sailing"
    assert "There is no lockfile" in team.perf("compose", "a sea", "--frozen", code=1).err
    team.perf("add", "studio/teddy", "--version", "<2")
    assert "`teddy` is not locked yet" in team.perf("compose", prompt, "--locked", code=1).err
    team.perf("sync")
    drawing = ("--steps", "1", "--out", "out.png")
    for command in (("compose", prompt), ("explain", prompt), ("render", prompt, *drawing)):
        team.perf(*command, "--locked")
    team.manifest.write_text(team.manifest.read_text().replace('"<2"', '">=2"'))
    text = team.lockfile.read_bytes()
    grid = ("--bias", "0.5", "--temperature", "0.1")
    commands = (("compose", prompt), ("explain", prompt), ("render", prompt), ("sweep", prompt, *grid))
    for command in commands:
        said = team.perf(*command, code=1, PERF_LOCKED="1")
        assert "`teddy` is locked at 1.1.0, and perfusion.toml, concepts.teddy asks for >=2" in said.err
    composed = json.loads(team.perf("compose", prompt, "--frozen", "--json", PERF_LOCKED="1").out)
    assert composed["concepts"][0]["version"] == "1.1.0"
    # What a picture holds is named by its hashes, whatever the lockfile says.
    team.perf("render", "--from", "out.png", "--out", "again.png", PERF_LOCKED="1")
    assert (team.folder / "again.png").read_bytes() == (team.folder / "out.png").read_bytes()

    # A lockfile alone has no manifest to be held against, and a base all the same.
    third = studio.person("third", None)
    third.perf("sync", "../team/perfusion.lock")
    third.perf("compose", prompt, "--locked")
    digest = re.search(r'(?m)^digest = "([0-9a-f]{64})"', text.decode())
    assert digest is not None
    third.lockfile.write_text(text.decode().replace(digest[1], "0" * 64))
    assert "is not the locked one" in third.perf("compose", prompt, "--locked", code=1).err
    assert "is not the locked one" in third.perf("compose", prompt).err


def test_offline_no_base_is_downloaded_though_it_might_be(studio: Studio) -> None:
    team = studio.person("team", '[project]\nname = "x"\nbase = "studio/base"\n')
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.settimeout(0)
        might = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}",
            "HF_HOME": str(studio.root / "hub"),
            "HF_HUB_OFFLINE": "0",
            "PERF_ALLOW_DOWNLOAD": "1",
            "PERF_OFFLINE": "1",
        }
        commands = (("compose", "a sea"), ("explain", "a sea"), ("render", "a sea"), ("lock",), ("sync",))
        for command in commands:
            assert "is not on this machine" in team.perf(*command, code=2, **might).err
        with pytest.raises(BlockingIOError):
            hub.accept()


def test_upgrades_and_the_lowest(studio: Studio) -> None:
    team = studio.person("team")
    team.perf("add", "studio/teddy", "--version", ">=1")
    team.perf("lock", "--lowest")
    assert team.versions() == {"teddy": "1.0.0"}
    team.perf("lock")
    assert team.versions() == {"teddy": "1.0.0"}
    (row,) = team.perf("list", "--outdated", "--json").json["concepts"]
    assert row == {
        "name": "teddy",
        "locked": "1.0.0",
        "allowed": "2.0.0",
        "latest": "2.0.0",
        "yanked": False,
        "registry": "studio",
    }
    assert "there is no concept `tedy`" in team.perf("lock", "--upgrade-package", "tedy", code=2).err.lower()
    assert "  ~ teddy 1.0.0 -> 2.0.0\n" in team.perf("lock", "--upgrade-package", "teddy").out


def test_other_bytes_for_a_locked_version_are_never_taken(studio: Studio) -> None:
    team = studio.person("team")
    team.perf("add", "studio/teddy", "--version", "==1.1.0")
    team.perf("lock")
    text = team.lockfile.read_bytes()
    block = read_lockfile(team.lockfile).concept("teddy")
    assert block is not None
    assert block.sha256 is not None
    forged = text.replace(block.sha256.encode(), b"0" * 64)
    team.lockfile.write_bytes(forged)
    for command in (("sync",), ("lock", "--upgrade"), ("sync", "--frozen")):
        assert "has other bytes for teddy 1.1.0" in team.perf(*command, code=2).err
    assert team.lockfile.read_bytes() == forged
    assert team.blobs() == set()


def test_a_pack_brings_its_concepts_and_scenes(studio: Studio) -> None:
    scene = {"prompt": "a teddy* at sea", "gates": {"teddy": {"bias": 0.4}}}
    studio.publish_pack("voyage", {"teddy": ">=1,<2"}, {"sea": scene})
    team = studio.person("team")
    team.perf("add", "studio/voyage")
    assert 'voyage = { version = ">=1.0.0,<2", registry = "studio" }' in team.manifest.read_text()
    synced = team.perf("sync").out
    assert "  + teddy 1.1.0\n  + voyage 1.0.0 (scene pack)\n" in synced
    assert "not locked" not in synced
    assert team.versions() == {"teddy": "1.1.0", "voyage": "1.0.0"}
    # Nothing is trained of either, which is no lack of concepts.
    assert (
        team.perf("build").out
        == "Nothing to build here\n  voyage comes from a registry: `perf sync` fetches it\n"
    )
    assert team.perf("tree").out.split("\n")[1:4] == [
        "└── voyage 1.0.0 (scene pack, ../registry)",
        "    └── teddy 1.1.0 (../registry)",
        "",
    ]
    said = json.loads(team.perf("compose", "--scene", "voyage/sea", "--json").out)
    assert said["prompt"] == "a teddy* at sea"
    assert said["concepts"][0]["bias"] == 0.4
    assert "did you mean voyage/sea?" in team.perf("compose", "--scene", "voyage/see", code=2).err
    assert "scene pack, not a concept" in team.perf("compose", "a voyage*", code=2).err
    team.perf("remove", "voyage")
    assert team.versions() == {}


def test_a_pack_of_the_project_is_nothing_to_build(studio: Studio) -> None:
    author = studio.person("author")
    (author.folder / "recipes").mkdir()
    pack = '[pack]\nname = "voyage"\nversion = "1.0.0"\n\n[scenes.sea]\nprompt = "a boat at sea"\n'
    (author.folder / "recipes" / "voyage.toml").write_text(pack)
    author.perf("add", "voyage")
    said = author.perf("build", "voyage").out
    assert said.split("\n")[0] == "Nothing to build here"
    assert "voyage is a scene pack" in said
    assert "`perf render --scene voyage/SCENE`" in said


def test_what_is_vendored_works_without_the_registry(studio: Studio) -> None:
    studio.publish_pack("voyage", {"teddy": "<2"}, {"sea": {"prompt": "a teddy* at sea"}})
    team = studio.person("team")
    team.perf("add", "studio/voyage")
    team.perf("lock")
    copied = team.perf("vendor", "../stick", "--json").json["copied"]
    assert copied == ["teddy 1.1.0", "voyage 1.0.0"]
    again = team.perf("vendor", "../stick", "--json").json
    assert (again["copied"], again["present"]) == ([], copied)
    shutil.rmtree(studio.root / "registry")
    third = studio.person("third", None)
    third.perf("sync", "../stick/perfusion.lock", "--offline")
    assert third.blobs() == team.blobs()
    assert third.perf("sync").out == "In sync: 2 concepts\n"
    assert {block.registry for block in read_lockfile(third.lockfile).concepts} == {"../stick"}
    rows = third.perf("verify", "--json").json["checked"]  # without the covariance, which drawing needs not
    assert [row["name"] for row in rows] == ["perfusion.lock", "teddy", "voyage"]
    assert "covariance" not in third.perf("doctor").out
    third.perf("sync", "../stick/perfusion.lock")  # once more is no conflict
    manifest = team.manifest.read_text().replace("../registry", "../stick")
    fourth = studio.person("fourth", manifest)
    fourth.perf("sync")
    assert fourth.blobs() == team.blobs()


@pytest.fixture
def server(studio: Studio) -> Iterator[str]:
    """The studio's folder on a web server of this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(studio.root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_lockfile_s_address_is_enough(studio: Studio, server: str) -> None:
    team = studio.person("team")
    team.perf("add", "studio/teddy", "--version", "<2")
    team.perf("lock")
    third = studio.person("third", None)
    third.perf("sync", f"{server}/team/perfusion.lock", "--offline", code=2)
    third.perf("sync", f"{server}/team/perfusion.lock")
    relative, seen = "registry+../registry", f"registry+{server}/registry"
    assert third.lockfile.read_text() == team.lockfile.read_text().replace(relative, seen)
    (sha256,) = third.blobs()
    assert sha256 == read_lockfile(third.lockfile).concepts[0].sha256
    assert "no lockfile at this address" in third.perf("sync", f"{server}/team/no.lock", code=2).err
    assert "a project here already" in team.perf("sync", "../third/perfusion.lock", code=2).err
    hostile = team.lockfile.read_text().replace("registry+../registry", f"registry+{studio.root}/registry")
    team.lockfile.write_text(hostile)
    fourth = studio.person("fourth", None)
    said = fourth.perf("sync", f"{server}/team/perfusion.lock", code=2)
    assert "names a folder of this machine" in said.err
    assert not fourth.lockfile.exists()


def test_search_and_info_show_what_others_wrote_harmlessly(studio: Studio) -> None:
    blob = save_artifact(studio.teddies["1.0.0"])
    card = studio.teddies["1.0.0"].card
    evil = "\x1b[2J[bold red]x[/]\n  licence        MIT"
    made = concept_release(card, blob).model_copy(
        update={"version": "3.0.0", "description": evil, "consent": evil, "authors": (evil,)}
    )
    studio.registry.publish(made, blob)
    team = studio.person("team")
    info = team.perf("info", "studio/teddy")
    assert "\x1b" not in info.out
    assert [line for line in info.out.split("\n") if line.startswith("  licence")] == [
        "  licence       CC0-1.0"
    ]
    assert "3.0.0, 2.0.0, 1.1.0, 1.0.0" in info.out
    said = team.perf("info", "teddy==1.1.0", "--json").json
    assert (said["version"], said["licence"], said["registry"]) == ("1.1.0", "CC0-1.0", "studio")
    assert said["base_licence"] == "OpenRAIL"
    found = team.perf("search", "TED")
    assert "studio/teddy" in found.out
    assert "\x1b" not in found.out
    assert "[bold red]" in found.out
    assert team.perf("search", "zebra").out == "Nothing found\n"
    assert team.perf("search", "--registry", "../registry", "--json").json["concepts"][0]["name"] == "teddy"


def test_a_sync_that_is_locked_looks_at_what_a_lock_would(studio: Studio) -> None:
    import torch
    from safetensors.torch import save_file

    team = studio.person("team")
    team.perf("add", "studio/teddy", "--version", "<2")
    team.perf("sync")
    team.perf("sync", "--locked")
    manifest = team.manifest.read_text()
    # Another covariance: what is locked does not compose with it, and nothing else is published.
    save_file({"C": torch.eye(32, dtype=torch.float64)}, studio.root / "D.safetensors")
    team.manifest.write_text(manifest.replace("../C.safetensors", "../D.safetensors"))
    for variables in ({}, {"PERF_LOCKED": "1"}):
        said = team.perf("sync", *(() if variables else ("--locked",)), code=1, **variables)
        assert "the covariance is ../D.safetensors, and another is locked" in said.err
    said = team.perf("sync", code=2)
    assert "1.0.0, 1.1.0: built with the covariance" in said.err
    said = team.perf("lock", "--check", code=1)
    assert said.err.count("covariance") == 1
    team.manifest.write_text(manifest)
    assert team.perf("sync").out == "In sync: 1 concept\n"
    # A base that was edited in place is seen too; a machine without one, which only fetches, needs none.
    base = studio.root / "base"
    folder = base.resolve()
    base.unlink()
    team.perf("sync", "--locked")
    shutil.copytree(folder, base)
    with (base / "model_index.json").open("a") as file:
        file.write("\n")
    team.perf("sync")
    assert "the base changed" in team.perf("sync", "--locked", code=1).err


def test_every_text_of_a_hostile_registry_is_shown_harmlessly(studio: Studio) -> None:
    """Whoever keeps a registry writes its index as they like, and every text of it is shown somewhere."""
    blob = save_artifact(studio.teddies["1.0.0"])
    evil = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2066[bold red]x[/]\r\n  licence        MIT\u2028\x85"
    texts = ("base", "supercategory", "licence", "base_licence", "consent", "description")
    card = concept_release(studio.teddies["1.0.0"].card, blob)
    hostile = card.model_copy(update=dict.fromkeys(texts, evil) | {"authors": (evil, evil)})
    stranger = hostile.model_copy(update={"name": "cat", "family": evil, "covariance": evil})
    for made in (hostile.model_copy(update={"version": "1.5.0"}), stranger):
        studio.registry.publish(made, blob)
    studio.registry.yank("teddy", "1.5.0", reason=evil)
    prompt = f"a teddy* {evil}".replace("\n", " ")  # a prompt may have lines
    studio.publish_pack("voyage", {"teddy": "<2"}, {"sea": {"prompt": prompt}})
    team = studio.person("team")
    story = [
        (("search",), 0),
        (("info", "studio/cat"), 0),
        (("info", "studio/teddy==1.5.0"), 0),
        (("add", "studio/cat"), 2),  # the explanation names its base and its family
        (("add", "studio/teddy", "--version", "==1.5.0"), 2),  # and this one why it was yanked
        (("add", "studio/voyage"), 0),
        (("sync",), 0),
        (("tree",), 0),
        (("list",), 0),
        (("list", "--outdated"), 0),
        (("verify",), 0),
        (("metadata", "--format-version", "1"), 0),
        (("compose", "--scene", "voyage/sea"), 0),
        (("explain", "--scene", "voyage/sea"), 0),
        (("vendor", "../stick"), 0),
    ]
    for command, code in story:
        said = team.perf(*command, code=code)
        for shown in (said.out, said.err):
            bad = {character for character in shown if not character.isprintable() and character != "\n"}
            assert not bad, (command, bad)
            assert "\n  licence        MIT" not in shown, command
    assert "[bold red]x[/]" in team.perf("info", "studio/cat").out
