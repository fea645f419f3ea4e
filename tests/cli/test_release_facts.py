"""What belongs to a release beside its bytes: said or asked for once, kept in the recipe, shown to others."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import perfusion_registry
from perfusion_registry.methods.files import read_recipe, read_recipe_or_pack
from perfusion_registry.operations.release_facts import preview_bytes
from perfusion_registry.recipe import Pack
from perfusion_registry.registries.release import Preview
from perfusion_registry.registries.sparse import blob_key
from tests.cli.running import Perf, edit, perf_process
from tests.operations.stand_in import stand_in
from tests.registries.samples import folder_registry
from tests.registries.web import first, of, serving

SAID = (
    *("--licence", "CC-BY-4.0", "--author", "You <you@example.org>", "--author", "Also"),
    *("--description", "a bear with one ear", "--consent", "the child that owns it"),
)


@pytest.fixture
def author(project: Path) -> Path:
    """A project with a built bear, whose recipe says nothing of a release, and a registry beside it."""
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "gallery"\n')
    stand_in(project, form=2)
    Image.effect_noise((900, 450), 90).convert("RGB").save(project / "look.png")
    return project


def test_what_is_said_once_is_kept_in_the_recipe_and_shown(
    perf: Perf, author: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = author / "recipes" / "bear.toml"
    refused = perf("publish", "bear")
    assert refused.code == 2
    assert "without licence and authors" in refused.err
    assert "--licence CC-BY-4.0 --author" in refused.err
    before = recipe.read_bytes()
    for wrong in (("--preview", "nowhere.png"), ("--description", "x" * 3000), ("--dry-run",)):
        assert perf("publish", "bear", *SAID[:4], *wrong).code == 2
        assert recipe.read_bytes() == before

    other_spelling = ("--license", *SAID[1:])  # taken, and not another option in the help
    assert "--license" not in perf("publish", "--help").out
    said = perf("publish", "bear", *other_spelling, "--preview", "look.png")
    assert said.code == 0, said.err
    assert " KB, a JPEG\n" in said.out
    concept = read_recipe(recipe).concept
    assert (concept.licence, concept.authors) == ("CC-BY-4.0", ("You <you@example.org>", "Also"))
    assert (concept.consent, concept.preview) == ("the child that owns it", "../look.png")
    assert recipe.read_text().startswith("#:schema ")
    assert perf("build", "--dry-run", "--json").json["needed"] == []  # the card alone was written anew
    assert perf("publish", "bear").out.endswith("bear 1.0.0 is in studio already\n")

    # The reader needs neither the recipe nor the project.
    monkeypatch.chdir(author.parent)
    shown = perf("info", "bear", "--registry", str(author / "gallery"), "--preview", str(author / "seen.jpg"))
    assert shown.code == 0, shown.err
    for text in ("CC-BY-4.0", "You <you@example.org>, Also", "a bear with one ear", "the child that owns it"):
        assert text in shown.out
    with Image.open(author / "seen.jpg") as preview:
        assert (preview.format, preview.size) == ("JPEG", (256, 128))
    assert shown.out.count("\n  bias") == shown.out.count("key_lock") == 0  # told once, under render
    other = author / "mine.jpg"
    other.write_bytes(b"mine")
    save = ("info", "bear", "--registry", str(author / "gallery"), "--preview")
    assert "another file here already" in perf(*save, str(other)).err
    assert other.read_bytes() == b"mine"
    assert perf(*save, str(author / "seen.jpg")).code == 0  # the very picture
    assert perf(*save, str(author / "new" / "folder" / "seen.jpg")).code == 0
    assert perf(*save, str(other), "--force").code == 0
    assert other.read_bytes() == (author / "seen.jpg").read_bytes()
    (row,) = perf("search", "--registry", str(author / "gallery"), "--json").json["concepts"]
    assert (row["licence"], row["consent"], row["preview"]) == ("CC-BY-4.0", "the child that owns it", True)
    table = perf("search", "--registry", str(author / "gallery")).out
    assert "CC-BY-4.0" in table
    head, row = table.splitlines()
    assert head.split() == ["concept", "version", "super", "licence", "consent", "preview", "description"]
    assert "the child that owns it" in row[head.index("consent") :]
    assert row[head.index("preview") :].startswith("yes")


def test_one_author_of_a_program_need_not_be_in_a_list(author: Path) -> None:
    perfusion_registry.open(author).publish("bear", licence="CC0-1.0", authors="You <you@example.org>")
    assert read_recipe(author / "recipes" / "bear.toml").concept.authors == ("You <you@example.org>",)


def test_what_another_project_has_said_of_the_same_is_published_with_it(
    perf: Perf, author: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two projects with one store: what the second publishes is there before it says anything."""
    other = author.with_name(f"{author.name} again")
    shutil.copytree(author, other, ignore=shutil.ignore_patterns("store", "gallery"))
    assert perf("publish", "bear", *SAID).code == 0
    monkeypatch.chdir(other)
    said = perf("publish", "bear", *SAID)
    assert said.code == 0, said.err
    (mine,), (theirs,) = (folder_registry(place / "gallery").versions("bear") for place in (other, author))
    assert mine.release == theirs.release
    assert mine.release.licence == "CC-BY-4.0"
    assert perf("lock", "--check").code == 0
    assert perf("publish", "bear").out.endswith("bear 1.0.0 is in studio already\n")


def test_what_is_locked_of_another_recipe_is_not_published(perf: Perf, author: Path) -> None:
    """Though what the recipe asks for now is in the store: nobody has locked that yet."""
    lockfile, recipe = author / "perfusion.lock", author / "recipes" / "bear.toml"
    edit(recipe, "[concept]", '[concept]\nlicence = "CC0-1.0"\nauthors = ["Me"]')
    locked = lockfile.read_bytes()
    stand_in(author, form=2)
    lockfile.write_bytes(locked)
    refused = perf("publish", "bear")
    assert refused.code == 2
    assert "its recipe has changed since it was locked" in " ".join(refused.err.split())
    assert not (author / "gallery").exists()


def test_what_is_out_already_stays_and_nothing_is_written_for_it(perf: Perf, author: Path) -> None:
    recipe = author / "recipes" / "bear.toml"
    assert perf("publish", "bear", *SAID, "--preview", "look.png").code == 0
    kept = {path: path.read_bytes() for path in (recipe, author / "perfusion.lock")}
    refused = perf("publish", "bear", "--licence", "MIT")
    assert refused.code == 2
    assert "`bear` 1.0.0 is out already" in " ".join(refused.err.split())
    assert "raise the version" in refused.err
    assert {path: path.read_bytes() for path in kept} == kept
    assert perf("publish", "bear", *SAID).out.endswith("bear 1.0.0 is in studio already\n")
    # A picture that another library encodes to other bytes is the one that is out, as is one that is gone.
    Image.effect_noise((900, 450), 30).convert("RGB").save(author / "look.png")
    assert perf("publish", "bear").out.endswith("bear 1.0.0 is in studio already\n")
    (author / "look.png").unlink()
    again = perf("publish", "bear", "--json").json["releases"][0]
    shown = folder_registry(author / "gallery").versions("bear")[0].release.preview
    assert (again["published"], again["release"]["preview"]) == (False, shown and shown.model_dump())


def test_of_several_none_goes_out_where_one_is_out_with_other_bytes(perf: Perf, author: Path) -> None:
    assert perf("publish", "bear", *SAID[:4]).code == 0
    said = perf("publish", "bear", "--dry-run")
    assert (said.code, said.out.endswith("bear 1.0.0 is in studio already\n")) == (0, True)
    text = '[pack]\nname = "tour"\nversion = "1.0.0"\nlicence = "MIT"\nauthors = ["Me"]\n'
    (author / "recipes" / "tour.toml").write_text(
        f'{text}[scenes.sea]\nprompt = "a boat"\n', encoding="utf-8"
    )
    assert perf("add", "tour").code == 0
    edit(author / "recipes" / "bear.toml", "CC-BY-4.0", "MIT")
    stand_in(author, form=2)
    for arguments in (("tour", "bear"), ("bear", "--dry-run")):
        refused = perf("publish", *arguments)
        assert refused.code == 2
        assert "`bear` 1.0.0 is published already with other bytes" in " ".join(refused.err.split())
    assert folder_registry(author / "gallery").versions("tour") == ()
    # What a prompt says of a journey is no concept: packs are not called.
    assert "tour*" not in perf("compose", "a bear* on a tour").err


def test_nothing_is_written_where_there_is_nowhere_to_publish(perf: Perf, author: Path) -> None:
    recipe = (author / "recipes" / "bear.toml").read_bytes()
    refused = perf("publish", "bear", *SAID, "--registry", "studdio")
    assert "no registry `studdio`" in refused.err
    assert (author / "recipes" / "bear.toml").read_bytes() == recipe


def test_nothing_is_written_and_nobody_asked_before_all_of_it_can_go_out(perf: Perf, author: Path) -> None:
    """Of several names, by recipe, lockfile and key: not one is written where one cannot go."""
    text = '[pack]\nname = "tour"\nversion = "1.0.0"\n\n[scenes.sea]\nprompt = "a boat"\n'
    (author / "recipes" / "tour.toml").write_text(text, encoding="utf-8")
    assert perf("add", "tour").code == 0
    assert perf("lock").code == 0
    files = [author / "recipes" / "bear.toml", author / "recipes" / "tour.toml", author / "perfusion.lock"]
    kept = {path: path.read_bytes() for path in files}
    for arguments, told in {
        ("tour", "--sign", *SAID[:4]): "no signing key",
        ("bear", "tour", *SAID): "shows nobody",
        ("bear", "tour", *SAID[:2]): "cannot be published without authors",
    }.items():
        refused = perf("publish", *arguments)
        assert refused.code == 2
        assert told in " ".join(refused.err.split())
        assert {path: path.read_bytes() for path in files} == kept
    edit(files[0], '"1.0.0"', '"1.1.0"')
    kept = {path: path.read_bytes() for path in files}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        perf_process("publish", "tour", "bear"), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
    ) as process:
        os.close(theirs)
        os.write(ours, b"MIT\nMe\n\n\n\n\n\n\n\n")
        _, asked = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 2
    assert "run `perf build bear`" in asked.decode()
    assert {path: path.read_bytes() for path in files} == kept
    assert not (author / "gallery").exists()


def test_what_a_stranger_calls_a_preview_is_looked_at(perf: Perf, author: Path) -> None:
    assert perf("publish", "bear", *SAID, "--preview", "look.png").code == 0
    registry = folder_registry(author / "gallery")
    release = registry.versions("bear")[0].release
    blob = b"".join(registry.blob(release))
    wide = BytesIO()
    Image.new("L", (5000, 8)).save(wide, "JPEG")
    pictures = {
        b"<html>": "no JPEG that can be read",
        wide.getvalue(): "5000 x 8 pixels",
        bytes(2**21): "1,048,576 are allowed",
    }
    for number, (picture, told) in enumerate(pictures.items()):
        other = author / f"other-{number}"
        shown = Preview(sha256=hashlib.sha256(picture).hexdigest(), size=len(picture))
        folder_registry(other).publish(release.model_copy(update={"preview": shown}), blob, picture)
        refused = perf("info", "bear", "--registry", str(other), "--preview", "seen.jpg")
        assert refused.code == 2
        assert told in " ".join(refused.err.split())
        assert not (author / "seen.jpg").exists()


def test_a_preview_is_vendored_with_its_release(perf: Perf, author: Path) -> None:
    assert perf("key", "new").code == 0
    assert perf("publish", "bear", *SAID[:4], "--preview", "look.png", "--sign").code == 0
    team = author / "team"
    team.mkdir()
    manifest = (author / "perfusion.toml").read_text(encoding="utf-8")
    for old, new in {
        '{ recipe = "recipes/bear.toml" }': '{ version = "" }',
        '"gallery"': '"../gallery"',
        '"C.safe': '"../C.safe',
    }.items():
        manifest = manifest.replace(old, new)
    (team / "perfusion.toml").write_text(manifest, encoding="utf-8")
    assert perf("lock", "--project", "team").code == 0
    assert perf("vendor", "stick", "--project", "team").code == 0
    # What came once needs no network, and what is built here has its preview too.
    assert perf("vendor", "again", "--project", "team", "--offline").code == 0
    assert perf("vendor", "own").code == 0
    for folder in ("again", "own"):
        saved = perf("info", "bear", "--registry", str(author / folder), "--preview", f"{folder}.jpg")
        assert saved.code == 0, saved.err
        assert (author / f"{folder}.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert perf("vendor", "own").code == 0
    assert perf("info", "bear", "--registry", str(author / "stick"), "--preview", "seen.jpg").code == 0
    assert Image.open(author / "seen.jpg").size == (256, 128)


def test_a_preview_comes_with_the_bytes_that_are_vendored_and_is_tried_again_as_they_are(
    perf: Perf, author: Path
) -> None:
    assert perf("publish", "bear", *SAID[:4], "--preview", "look.png").code == 0
    listing = folder_registry(author / "gallery").versions("bear")[0]
    assert listing.release.preview is not None
    picture = blob_key(listing.release.preview.sha256)
    manifest = (author / "perfusion.toml").read_text(encoding="utf-8")
    with serving(author / "gallery") as web:
        for old, new in {
            '{ recipe = "recipes/bear.toml" }': '{ version = "" }',
            '"gallery"': f'"{web.url}"',
        }.items():
            manifest = manifest.replace(old, new)
        (author / "perfusion.toml").write_text(manifest, encoding="utf-8")
        assert perf("lock").code == 0
        assert perf("sync").code == 0
        assert not any(picture in request.path for request in web.requests)
        refused = perf("vendor", "stick", "--offline")
        assert refused.code == 2
        assert "preview of bear 1.0.0 needs the network" in " ".join(refused.err.split())
        assert not (author / "stick").exists()
        bad = first(2, of(200, b"\xff\xd8\xff"))
        web.twist = lambda request, answer: bad(request, answer) if picture in request.path else answer
        assert perf("vendor", "stick").code == 0
        assert sum(picture in request.path for request in web.requests) == 3
    assert perf("vendor", "again", "--offline").code == 0
    for folder in ("stick", "again"):
        assert (author / folder / picture).read_bytes() == (author / "gallery" / picture).read_bytes()


def test_a_scene_pack_has_a_preview_too_and_nobody_in_it(perf: Perf, author: Path) -> None:
    text = '# Mine.\n[pack]\nname = "tour"\nversion = "1.0.0"\n\n[pack.requires]\nbear = ">=1"\n\n'
    text += '[scenes.sea]\nprompt = "a bear*"\ngates = { bear = { bias = 0.5, preset = "together" } }\n'
    (author / "recipes" / "tour.toml").write_text(text, encoding="utf-8")
    assert perf("add", "tour").code == 0
    assert perf("lock").code == 0
    assert "shows nobody" in perf("publish", "tour", *SAID).err
    said = perf("publish", "tour", *SAID[:6], "--preview", "look.png")
    assert said.code == 0, said.err
    pack = read_recipe_or_pack(author / "recipes" / "tour.toml")
    assert isinstance(pack, Pack)
    assert pack.pack.preview == "../look.png"
    assert (author / "recipes" / "tour.toml").read_text(encoding="utf-8").startswith("# Mine.\n")
    info = perf("info", "tour", "--registry", "studio", "--preview", "seen.jpg", "--json").json
    assert info["preview"]["size"] == (author / "seen.jpg").stat().st_size
    Image.open(BytesIO((author / "seen.jpg").read_bytes())).load()


def test_a_terminal_is_asked_once(perf: Perf, author: Path) -> None:
    answers = "CC0-1.0\nMe\n\n\nlook.png\n"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        perf_process("publish", "bear"), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=os.environ
    ) as process:
        os.close(theirs)
        os.write(ours, answers.encode())
        _, asked = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 0, asked
    assert "Licence, such as CC-BY-4.0" in asked.decode()
    assert "first time" not in asked.decode()
    concept = read_recipe(author / "recipes" / "bear.toml").concept
    assert (concept.licence, concept.authors, concept.preview) == ("CC0-1.0", ("Me",), "../look.png")
    assert concept.description is None
    said = json.loads(perf("info", "bear", "--registry", "studio", "--json").out)
    assert said["licence"] == "CC0-1.0"
    # Nobody is asked where nobody would answer, nor twice: this run has no terminal, the recipe says it all.
    edit(author / "recipes" / "bear.toml", '"1.0.0"', '"1.1.0"')
    assert perf("build").code == 0
    assert perf("publish", "bear").code == 0


def test_a_terminal_is_asked_only_for_what_nobody_has_said(perf: Perf, author: Path) -> None:
    ours, theirs = pty.openpty()
    said = ("--licence", "MIT", "--description", "a bear")
    with subprocess.Popen(
        perf_process("publish", "bear", *said),
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=os.environ,
    ) as process:  # fmt: skip
        os.close(theirs)
        os.write(ours, b"Me\n\n\n")
        _, asked = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 0, asked
    for question, put in {
        "Licence": False,
        "What it shows,": False,
        "Author": True,
        "Who agreed": True,
    }.items():
        assert (question in asked.decode()) is put, question
    concept = read_recipe(author / "recipes" / "bear.toml").concept
    assert (concept.licence, concept.authors, concept.description) == ("MIT", ("Me",), "a bear")


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "PNG"])
def test_a_preview_tells_nothing_beside_its_pixels(tmp_path: Path, kind: str) -> None:
    """What a photograph says of its place, of its maker or in a comment stays at home."""
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    beside: dict[str, Any] = {
        "JPEG": {"comment": b"a secret place", "exif": exif},
        "GIF": {"comment": b"a secret place"},
        "PNG": {"exif": exif},
    }[kind]
    picture = tmp_path / f"it.{kind.lower()}"
    Image.new("RGB", (300, 200), "teal").save(picture, kind, **beside)
    assert b"a secret place" in picture.read_bytes()
    preview = preview_bytes(picture)
    assert b"a secret place" not in preview
    with Image.open(BytesIO(preview)) as shown:
        assert (shown.format, shown.size) == ("JPEG", (256, 171))
