"""`perf publish`, `yank`, `unyank` and `key`, to a registry in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.target import RegistryTarget, find_target, parse_release
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.registries import Registry
from perfusion_registry.trust.check import is_signature_valid
from tests.cli.running import Perf, edit
from tests.operations.stand_in import stand_in

CARD = """\
licence = "CC-BY-4.0"
authors = ["A. N. Author"]
description = "a bear"
consent = "it is my own bear"
"""


@pytest.fixture
def studio(project: Path) -> Registry:
    """A registry in a folder that the project calls `studio`, and a card that may be published."""
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "gallery"\n')
    edit(project / "recipes" / "bear.toml", "[concept]\n", f"[concept]\n{CARD}")
    with Workspace.open(project) as workspace:
        return find_target(workspace, "studio").open(workspace)


def target(start: Path | None, wanted: str | None) -> RegistryTarget:
    with Workspace.open(start, optional=True) as workspace:
        return find_target(workspace, wanted)


def test_publishing_from_the_first_mistake_to_a_yanked_version(
    perf: Perf, project: Path, studio: Registry
) -> None:
    """One story, whose steps build on each other."""
    unbuilt = perf("publish", "bear")
    assert unbuilt.code == 2
    assert "never built" in unbuilt.err
    sha256 = stand_in(project)

    planned = perf("publish", "bear", "--dry-run")
    assert planned.code == 0, planned.err
    for told in ("a bear", "CC-BY-4.0", "A. N. Author", "it is my own bear", sha256, "base licence  unknown"):
        assert told in planned.out
    assert "Would publish bear 1.0.0 to studio" in planned.out
    assert not (project / "gallery").exists()

    assert "Published bear 1.0.0 to studio" in perf("publish", "bear").out
    (listing,) = studio.versions("bear")
    assert (
        b"".join(studio.blob(listing.release))
        == (project / "store" / "artifacts" / sha256[:2] / f"{sha256}.safetensors").read_bytes()
    )
    assert listing.release.sha256 == sha256
    assert listing.release.base is not None
    assert str(project) not in listing.release.model_dump_json()
    again = perf("publish", "bear", "--json").json
    assert again["schema"] == "perf.publish/1"
    assert again["releases"][0]["published"] is False

    # Another card under the same version is other bytes: refused. A raised version is published.
    edit(project / "recipes" / "bear.toml", "a bear", "another bear")
    changed = perf("publish", "bear")
    assert changed.code == 2
    assert "its card changed" in changed.err
    stand_in(project)
    refused = perf("publish", "bear")
    assert refused.code == 2
    assert "published already with other bytes" in refused.err
    edit(project / "recipes" / "bear.toml", 'version = "1.0.0"', 'version = "1.1.0"')
    stand_in(project)
    assert perf("publish", "bear", "--registry", str(project / "gallery")).code == 0

    assert perf("yank", "bear==1.1.0", "--dry-run").out == "Would yank bear 1.1.0 in studio\n"
    assert perf("unyank", "bear==1.1.0", "--dry-run").out == "bear 1.1.0 in studio is not yanked\n"
    assert perf("yank", "bear==1.1.0", "--reason", "the \x1b[31mear").out == "Yanked bear 1.1.0 in studio\n"
    assert perf("yank", "bear", "1.1").out == "bear 1.1 in studio is yanked already\n"
    assert perf("yank", "bear==1.1").out == "bear 1.1 in studio is yanked already\n"
    listing = studio.versions("bear")[1]
    assert (listing.release.version, listing.yanked, listing.reason) == ("1.1.0", True, "the \x1b[31mear")
    assert perf("unyank", "bear==1.1.0", "--json").json == {
        "schema": "perf.unyank/1",
        "registry": "gallery",
        "name": "bear",
        "version": "1.1.0",
        "changed": True,
    }
    assert not studio.versions("bear")[1].yanked
    for options in ((), ("--dry-run",)):
        unknown = perf("yank", "bear==9", *options)
        assert unknown.code == 2
        assert "never published here; there are: 1.0.0, 1.1.0" in unknown.err.replace("\n", " ")


def test_a_card_without_licence_and_authors_is_refused_at_once(
    perf: Perf, project: Path, studio: Registry
) -> None:
    edit(project / "recipes" / "bear.toml", CARD, "")
    stand_in(project)
    refused = perf("publish", "bear")
    assert refused.code == 2
    assert "cannot be published without licence and authors" in refused.err
    assert 'licence = "CC-BY-4.0"' in refused.err
    assert not (project / "gallery").exists()


def test_a_scene_pack_is_published_with_what_it_requires(perf: Perf, project: Path, studio: Registry) -> None:
    (project / "recipes" / "party.toml").write_text(
        '[pack]\nname = "party"\nversion = "2.0"\nlicence = "CC0-1.0"\nauthors = ["A"]\n'
        'requires = { bear = ">=1" }\n[scenes.snow]\nprompt = "a bear* in the snow"\n'
    )
    edit(
        project / "perfusion.toml", "[concepts]\n", '[concepts]\nparty = { recipe = "recipes/party.toml" }\n'
    )
    said = perf("publish", "party")
    assert said.code == 0, said.err
    assert "scene pack" in said.out
    (listing,) = studio.versions("party")
    assert listing.release.kind == "pack"
    assert [(need.name, need.version) for need in listing.release.requires] == [("bear", ">=1")]


def test_signing(perf: Perf, project: Path, studio: Registry) -> None:
    stand_in(project)
    keyless = perf("publish", "bear", "--sign")
    assert keyless.code == 2
    assert "perf key new" in keyless.err
    made = perf("key", "new", "--json").json
    assert perf("key", "new").code == 2
    shown = perf("key", "show").out
    assert made["public"] in shown
    assert made["fingerprint"] in shown
    said = perf("publish", "bear", "--sign")
    assert made["fingerprint"] in said.out
    (listing,) = studio.versions("bear")
    assert is_signature_valid(listing.release)
    assert listing.release.signature is not None
    assert listing.release.signature.key == made["public"]


def test_known_keys(perf: Perf, project: Path, studio: Registry) -> None:
    assert perf("key", "list").out.startswith("No keys yet")
    said = perf("key", "trust", "bear", "ab" * 32, "--since", "1.0")
    assert said.code == 0, said.err
    (row,) = perf("key", "list", "--json").json["keys"]
    assert (row["name"], row["registry"], row["since"]) == ("bear", str(project / "gallery"), "1.0")
    assert row["fingerprint"] in perf("key", "list").out
    # The address that an error names finds the same pin.
    forgot = perf("key", "forget", "bear", "--registry", str(project / "gallery"))
    assert forgot.out.startswith("Forgot the key of bear")
    assert perf("key", "forget", "bear", "--json").json["forgotten"] is False
    assert perf("key", "trust", "bear", "zz").code == 2
    assert perf("key", "trust", "bear", "ab" * 32, "--since", "x").code == 2


def test_which_registry_is_meant(perf: Perf, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "has no registry" in perf("yank", "bear==1").err
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "gallery"\nhome = "https://example.org/c"\n')
    assert "several registries: `home`, `studio`" in perf("yank", "bear==1").err
    assert "did you mean `studio`?" in perf("yank", "bear==1", "--registry", "studoi").err
    assert "did you mean `studio`?" in perf("unyank", "studoi/bear==1").err
    assert target(project, "https://example.org/c").name == "home"
    edit(project / "perfusion.toml", "home =", "default =")
    assert target(project, None).url == "https://example.org/c"
    monkeypatch.chdir("/")
    assert target(None, "./gallery").root == Path("/")
    with pytest.raises(PerfError, match=r"no perfusion\.toml"):
        target(None, "studio")


@pytest.mark.parametrize(
    "text", ["bear", "bear==", "==1", "bear==x", "bear@1", "../x==1", "/x==1", "a/==1", "bear==1==2"]
)
def test_what_names_no_release(text: str) -> None:
    with pytest.raises(PerfError):
        parse_release(text)
    assert parse_release("Blue_Bear==1.0.0+x".lower()) == (None, "blue-bear", "1.0.0+x")
    assert parse_release("studio/bear==1.0") == ("studio", "bear", "1.0")
