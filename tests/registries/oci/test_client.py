"""What registries may do to the OCI client: ask who it is, send it elsewhere, page, lie, fail, race."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perfusion_registry.registries import AlreadyPublishedError, RegistryError, TransferError
from perfusion_registry.registries.backoff import Backoff
from perfusion_registry.registries.credentials import Credentials
from perfusion_registry.registries.oci.address import parse_oci_address
from perfusion_registry.registries.oci.http import OciHttp, fetch_once
from perfusion_registry.registries.oci.manifest import claim_manifest, release_manifest
from perfusion_registry.registries.oci.registry import OciRegistry
from perfusion_registry.registries.oci.tag import tag_version, version_tag
from perfusion_registry.registries.oci.token import Authenticator, parse_challenges
from perfusion_registry.registries.transport import origin_of
from tests.registries.oci.samples import sample
from tests.registries.oci.server import BASIC, PASSWORD, USER, Oci, serve
from tests.registries.web import Answer, serving

LOGIN = Credentials(username=USER, password=PASSWORD)
TEDDY = "studio/teddy"
QUICK = Backoff(0.01, longest=0.01)


def registry(
    oci: Oci, cache: Path, credentials: Credentials | None = LOGIN, *, settle: float = 0.5
) -> OciRegistry:
    return OciRegistry(oci.url, credentials=credentials, cache=cache, settle=settle, backoff=QUICK)


def published(registry: OciRegistry) -> list[str]:
    return [one.release.version for one in registry.versions("teddy")]


@pytest.mark.parametrize("guard", ["basic", "bearer"])
def test_credentials_open_a_guarded_registry_and_tokens_go_to_it_alone(guard: str, tmp_path: Path) -> None:
    with serve(guard=guard, elsewhere=True) as oci:
        release, blob = sample()
        studio = registry(oci, tmp_path)
        assert studio.publish(release, blob) is True
        assert b"".join(studio.blob(release)) == blob
        assert published(studio) == ["1.0.0"]
        assert len(studio.catalogue()) == 1
        elsewhere = {given for _, host, path, given in oci.seen if path.startswith("/elsewhere/")}
        assert elsewhere == {None}
        realm = {given for _, _, path, given in oci.seen if path.startswith("/token")}
        assert realm == ({BASIC} if guard == "bearer" else set())
        with pytest.raises(RegistryError, match="asks for a login"):
            registry(oci, tmp_path, None).versions("teddy")
        with pytest.raises(RegistryError, match="does not accept the credentials") as refused:
            registry(oci, tmp_path, Credentials(username=USER, password="wrong-one")).versions("teddy")
        assert "wrong-one" not in str(refused.value)


def test_anybody_reads_with_an_anonymous_token_where_that_is_given(tmp_path: Path) -> None:
    with serve(guard="bearer", anonymous=True) as oci:
        registry(oci, tmp_path).publish(*sample())
        oci.seen.clear()
        stranger = registry(oci, tmp_path / "stranger", None)
        assert published(stranger) == ["1.0.0"]
        assert all(given is None for _, _, path, given in oci.seen if path.startswith("/token"))
        with pytest.raises(RegistryError, match="asks for a login"):
            stranger.publish(*sample("2.0.0"))


@pytest.mark.parametrize(
    "realm", ["http://auth.example/token", "ftp://127.0.0.1/", "https://u:p@auth.example/", "nonsense", ""]
)
def test_a_realm_that_must_not_see_the_password_never_does(realm: str, tmp_path: Path) -> None:
    with (
        serve(guard="bearer", realm=realm or "https://auth.example/token") as oci,
        pytest.raises(RegistryError),
    ):
        registry(oci, tmp_path).versions("teddy")


def test_which_realms_may_see_the_login() -> None:
    """A registry over HTTPS names any HTTPS realm; never plain HTTP, and never this machine."""
    asked: list[tuple[str, dict[str, str]]] = []

    def fetch(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
        asked.append((url, headers))
        return 200, b'{"access_token": "t"}'

    origin = parse_oci_address("oci://registry.example/studio").origin
    challenge = 'Bearer realm="{}",service="s"'
    proof = Authenticator(origin, (USER, PASSWORD), fetch).answer(
        [challenge.format("https://auth.example/token?a=b")], "repository:x:pull", tried=None
    )
    assert proof == "Bearer t"
    assert asked == [
        ("https://auth.example/token?a=b&service=s&scope=repository%3Ax%3Apull", {"Authorization": BASIC})
    ]
    for realm in ("http://registry.example/token", "http://127.0.0.1/token", "http://auth.example/token"):
        for login in ((USER, PASSWORD), None):
            with pytest.raises(RegistryError, match="HTTPS only"):
                Authenticator(origin, login, fetch).answer([challenge.format(realm)], "s", tried=None)
    plain = parse_oci_address("oci+http://registry.example/studio").origin
    with pytest.raises(RegistryError, match="must not be sent its password"):
        Authenticator(plain, (USER, PASSWORD), fetch).answer(
            [challenge.format("https://auth.example/")], "s", tried=None
        )
    assert len(asked) == 1
    with pytest.raises(RegistryError, match="in the open"):
        OciRegistry("oci+http://registry.example/studio", credentials=LOGIN, cache=Path())


def test_challenges_are_read_in_every_form() -> None:
    assert parse_challenges(['Basic realm="a, b", Bearer realm="https://x/",scope="r:x:pull,push"']) == [
        ("basic", {"realm": "a, b"}),
        ("bearer", {"realm": "https://x/", "scope": "r:x:pull,push"}),
    ]
    assert parse_challenges(["Negotiate", r'bearer REALM="a\"b" , service=c']) == [
        ("negotiate", {}),
        ("bearer", {"realm": 'a"b', "service": "c"}),
    ]
    assert parse_challenges(["", '"', "=" * 9000, "Bearer " * 2000]) == []


def test_lists_are_read_to_their_last_page_and_no_further(tmp_path: Path) -> None:
    versions = [f"1.{number}.0" for number in range(7)]
    with serve(page=2) as oci:
        studio = registry(oci, tmp_path)
        for version in versions[:2]:
            studio.publish(*sample(version))
        for version in versions[2:]:
            manifest = release_manifest(sample(version)[0])
            oci.manifests[TEDDY, version] = (manifest.media_type, manifest.data)
        assert published(studio) == versions
        for name in ("teapot", "mug"):
            studio.publish(*sample(name=name))
        assert [one.name for one in studio.catalogue()] == ["mug", "teapot", "teddy"]
        for link in ('<https://evil.example/>; rel="next"', '<?n=1>; rel="next"', "<>", "nonsense"):
            oci.spoil["/tags/list"] = lambda s, h, b, link=link: (s, {**h, "Link": link}, b)
            with pytest.raises(RegistryError):
                studio.versions("teddy")


def test_without_a_catalogue_of_the_registry_there_is_ours(tmp_path: Path) -> None:
    with serve(catalogue=False) as oci:
        studio = registry(oci, tmp_path)
        studio.publish(*sample())
        studio.publish(*sample(name="mug"))
        assert [one.name for one in studio.catalogue()] == ["mug", "teddy"]
        assert oci.tags("studio/perf.catalogue") == ["mug", "teddy"]


def test_what_belongs_to_others_is_passed_over(tmp_path: Path) -> None:
    with serve() as oci:
        studio = registry(oci, tmp_path)
        studio.publish(*sample())
        manifest = release_manifest(sample("2.0")[0])
        oci.manifests[TEDDY, "latest"] = oci.manifests[TEDDY, "v2.0"] = (manifest.media_type, manifest.data)
        strange = b'{"layers": ' + b"[" * 500 + b"]" * 500 + b"}"
        for tag, data in (("3.0", b'{"schemaVersion": 2}'), ("4.0", b'{"manifests": []}'), ("5.0", strange)):
            oci.manifests[TEDDY, tag] = ("application/vnd.docker.distribution.manifest.v2+json", data)
        oci.manifests["studio/Teddy", "1.0"] = oci.manifests["studio/a/b", "1.0"] = ("", b"{}")
        assert published(studio) == ["1.0.0"]
        assert [one.name for one in studio.catalogue()] == ["teddy"]


def _other(data: bytes) -> bytes:
    return data.replace(b"teddy", b"daddy")


LIES: dict[str, Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]] = {
    "a digest that is not the manifest's": lambda s, h, b: (s, {**h, "Docker-Content-Digest": "sha256:0"}, b),
    "no JSON": lambda s, h, b: (s, h, b"\xff"),
    "JSON without end": lambda s, h, b: (s, h, b"[" * 100_000),
    "a release of another name": lambda s, h, b: (s, h, release_manifest(sample(name="mug")[0]).data),
    "a release of another version": lambda s, h, b: (s, h, release_manifest(sample("9.9")[0]).data),
    "a layer that is not the release's": lambda s, h, b: (
        s,
        h,
        b.replace(sample()[0].sha256.encode(), b"0" * 64),
    ),
    "no layer": lambda s, h, b: (s, h, json.dumps({**json.loads(b), "layers": []}).encode()),
    "a manifest without end": lambda s, h, b: (s, h, b" " * (5 * 2**20)),
    "a truncated manifest": lambda s, h, b: (s, {**h, "Content-Length": str(len(b) + 9)}, b),
    "a redirect without end": lambda s, h, b: (307, {"Location": f"/v2/{TEDDY}/manifests/1.0.0"}, b""),
    "a redirect into nothing": lambda s, h, b: (307, {}, b""),
    "a redirect to a file": lambda s, h, b: (302, {"Location": "file:///etc/passwd"}, b""),
    "no more than trouble": lambda s, h, b: (503, {"Retry-After": "100000"}, b""),
    "a refusal": lambda s, h, b: (403, {}, b'{"errors":[{"code":"DENIED","message":"\\u001b[31mno"}]}'),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_a_release_is_an_error(lie: str, tmp_path: Path) -> None:
    with serve() as oci:
        studio = registry(oci, tmp_path)
        studio.publish(*sample())
        oci.spoil["/manifests/1.0.0"] = LIES[lie]
        oci.seen.clear()
        with pytest.raises(RegistryError):
            studio.versions("teddy")
        assert len(oci.seen) < 20


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda s, h, b: (s, h, _other(b)), "not what its digest says"),
        (lambda s, h, b: (s, h, b + b"x"), "more than"),
        (lambda s, h, b: (s, h, b[:-1]), "breaks off"),
        (lambda s, h, b: (s, {**h, "Content-Length": str(len(b))}, b[:-1]), "breaks off"),
        (lambda s, h, b: (500, h, b""), "500"),
    ],
)
def test_a_blob_that_arrives_wrong_is_a_failed_transfer(
    wrong: Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]],
    message: str,
    tmp_path: Path,
) -> None:
    with serve(elsewhere=True) as oci:
        release, blob = sample()
        studio = registry(oci, tmp_path)
        studio.publish(release, blob)
        oci.spoil["/elsewhere/"] = wrong
        with pytest.raises(TransferError, match=message) as failed:
            list(studio.blob(release))
        assert "sig=" not in str(failed.value)


@pytest.mark.parametrize("times", [1, 1000])
def test_a_part_of_a_manifest_is_no_stranger_s_and_hides_no_release(times: int, tmp_path: Path) -> None:
    with serve() as oci:
        registry(oci, tmp_path).publish(*sample())
        left = [times]

        def cut(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
            left[0] -= 1
            named = {name: value for name, value in headers.items() if name != "Docker-Content-Digest"}
            return (status, named, body[:-9]) if left[0] >= 0 else (status, headers, body)

        oci.spoil["/manifests/1.0.0"] = cut
        newcomer = registry(oci, tmp_path / "new")
        if times == 1:
            assert published(newcomer) == ["1.0.0"]
        else:
            with pytest.raises(TransferError, match="that is not a manifest"):
                newcomer.versions("teddy")
            assert left[0] == times - 4


def test_a_registry_that_stores_other_bytes_gets_no_tag(tmp_path: Path) -> None:
    with serve() as oci:
        oci.spoil["/blobs/sha256:"] = lambda s, h, b: (s, h, _other(b))
        with pytest.raises(TransferError, match="not what its digest says"):
            registry(oci, tmp_path).publish(*sample())
        assert oci.tags(TEDDY) == []


def test_passing_trouble_passes(tmp_path: Path) -> None:
    with serve() as oci:
        left = {"n": 3}

        def troubled(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
            left["n"] -= 1
            return (status, headers, body) if left["n"] < 0 else (503, {}, b"")

        oci.spoil["/"] = troubled
        studio = registry(oci, tmp_path)
        assert studio.publish(*sample()) is True
        left["n"] = 3
        assert published(studio) == ["1.0.0"]


SLOW = {
    "headers": Answer(0, raw=b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000, pause=0.02),
    "body": Answer(200, {"Content-Length": "10000"}, b"x" * 10_000, pause=0.01),
    "chunks": Answer(200, {"Transfer-Encoding": "chunked"}, b"1\r\nx\r\n" * 9999, pause=0.01),
    "trailers": Answer(200, {"Transfer-Encoding": "chunked"}, b"0\r\n" + b"A: b\r\n" * 9999, pause=0.01),
}


@pytest.mark.parametrize("where", SLOW)
def test_a_registry_that_drips_is_given_up_in_time(where: str, tmp_path: Path) -> None:
    with serving(tmp_path) as web:
        web.twist = lambda request, honest: SLOW[where]
        origin = origin_of(web.url)
        assert origin is not None
        http = OciHttp(origin, Authenticator(origin, None, fetch_once), QUICK)
        begun = time.monotonic()
        with pytest.raises(TransferError, match="too slow"):
            http.ask("GET", f"{web.url}/v2/", scope="", attempts=2, seconds=0.4)
        assert time.monotonic() - begun < 6
        assert len(web.requests) == 2


def test_a_publisher_who_died_after_its_claim_has_won_and_the_next_one_finishes(tmp_path: Path) -> None:
    with serve() as oci:
        dead, _ = sample("1.0.0", b"of the dead")
        manifest = release_manifest(dead)
        claim = claim_manifest(manifest, "somebody")
        oci.manifests[TEDDY, manifest.digest] = (manifest.media_type, manifest.data)
        oci.manifests[TEDDY, "_claim.1"] = (claim.media_type, claim.data)
        studio = registry(oci, tmp_path)
        assert published(studio) == []
        with pytest.raises(AlreadyPublishedError):
            studio.publish(*sample("1.0", b"of the living"))
        assert [one.release for one in studio.versions("teddy")] == [dead]


def test_a_claim_that_takes_effect_too_late_loses_to_a_tag(tmp_path: Path) -> None:
    """The timing assumption broken: one publisher's put of its claim is held up until the other has won."""
    with serve() as oci:
        first, second = registry(oci, tmp_path / "first", settle=3), registry(oci, tmp_path / "second")
        held: list[bool] = []

        def hold(path: str) -> None:
            if "_claim." in path and not held:
                held.append(True)
                held.append(second.publish(*sample("1.0.0", b"of the second")))

        oci.before_put = hold
        with pytest.raises(AlreadyPublishedError):
            first.publish(*sample("1.0.0", b"of the first"))
        assert held == [True, True]
        winner = sample("1.0.0", b"of the second")[0]
        assert [one.release for one in first.versions("teddy")] == [winner]
        assert [one.release for one in second.versions("teddy")] == [winner]


def test_a_claim_for_something_else_is_told(tmp_path: Path) -> None:
    with serve() as oci:
        oci.manifests[TEDDY, "_claim.1"] = ("", b'{"schemaVersion": 2}')
        with pytest.raises(RegistryError, match="holds something else"):
            registry(oci, tmp_path).publish(*sample())
        gone = claim_manifest(release_manifest(sample("2.0")[0]), "somebody")
        oci.manifests[TEDDY, "_claim.1"] = (gone.media_type, gone.data)
        with pytest.raises(RegistryError, match="not a release of it"):
            registry(oci, tmp_path).publish(*sample())
        assert oci.tags(TEDDY) == ["_claim.1"]


@pytest.mark.parametrize("version", ["1.0.0", "1!2.0", "1.0+ubuntu.1", "2!1.0rc1.post2.dev3+a.b.3", "0"])
def test_every_version_has_a_tag_and_every_tag_at_most_one_version(version: str) -> None:
    assert tag_version(version_tag(version)) == version


@pytest.mark.parametrize(
    "tag", ["latest", "v1.0", "1.0-1", "1.0.0_", "_claim.1", "1.0RC1", "１.0", "01.0", ""]
)
def test_tags_that_are_no_versions(tag: str) -> None:
    assert tag_version(tag) is None


def test_a_version_too_long_for_a_tag_is_refused() -> None:
    with pytest.raises(RegistryError, match="cannot be a tag"):
        version_tag("1." + "0" * 200)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("oci://ghcr.io/owner", "https://ghcr.io"),
        ("oci://Registry.Example:8443/a/b-c/d__e", "https://registry.example:8443"),
        ("oci://localhost:5000/x", "http://localhost:5000"),
        ("oci://[::1]:5000/x", "http://[::1]:5000"),
        ("oci://127.0.0.1/x", "http://127.0.0.1"),
        ("oci+http://registry.example/x/", "http://registry.example"),
        ("oci://docker.io/me", "https://registry-1.docker.io"),
    ],
)
def test_places(url: str, origin: str) -> None:
    assert str(parse_oci_address(url).origin) == origin


@pytest.mark.parametrize(
    "url",
    [
        "oci://",
        "oci://host",
        "oci://host/",
        "oci://host/UPPER",
        "oci://host/a//b",
        "oci://host/../x",
        "oci://host/a?b",
        "oci://ho st/a",
        "oci://host:99999/a",
        "oci://host:x/a",
        "oci://host/a#b",
        "oci://хост/a",
        "https://host/a",
    ],
)
def test_what_is_no_place(url: str) -> None:
    with pytest.raises(RegistryError, match="not an OCI registry"):
        parse_oci_address(url)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(RegistryError) as refused:
        parse_oci_address("oci://me:secret@host/x")
    assert "secret" not in str(refused.value)
