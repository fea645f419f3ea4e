from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.patterns import matches
from perfusion_registry.resolve import SourceImage, find_files, find_images
from tests.resolve.samples import write_images

FILES = [
    "a/1.png",
    "a/2.PNG",
    "a/10.png",
    "a/.hidden.png",
    "a/b/3.png",
    "a/b/c/4.png",
    "B/5.jpg",
    "a/note.txt",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a/*.png", ["a/1.png", "a/10.png", "a/2.PNG"]),
        ("a/*.PNG", ["a/1.png", "a/10.png", "a/2.PNG"]),
        ("A/1.Png", ["a/1.png"]),
        ("b/*", ["B/5.jpg"]),
        ("a/?.png", ["a/1.png", "a/2.PNG"]),
        ("a/[0-1]*.png", ["a/1.png", "a/10.png"]),
        ("**/*.png", ["a/1.png", "a/10.png", "a/2.PNG", "a/b/3.png", "a/b/c/4.png"]),
        ("a/**/3.png", ["a/b/3.png"]),
        ("a/.hidden.png", ["a/.hidden.png"]),
        ("a/../B/*.jpg", ["B/5.jpg"]),
        ("./B/*.jpg", ["B/5.jpg"]),
        ("a/b", []),
        ("none/*.png", []),
        ("a/1.png/*", []),
    ],
)
def test_patterns(folder: Path, pattern: str, found: list[str]) -> None:
    assert [os.path.join(folder, name) for name in found] == [
        str(path) for path in find_files(folder, pattern)
    ]
    absolute = find_files(Path("/nowhere"), (folder / pattern).as_posix())
    assert [path.resolve() for path in absolute] == [(folder / name).resolve() for name in found]


def test_images_are_known_by_their_contents_alone(tmp_path: Path) -> None:
    write_images(tmp_path / "one", "1.png", "2.png", "3.png")
    (tmp_path / "two").mkdir()
    for old, new in (("1.png", "z.PNG"), ("2.png", "a.png"), ("3.png", "m.png")):
        (tmp_path / "two" / new).write_bytes((tmp_path / "one" / old).read_bytes())
    one = find_images(tmp_path, ["one/*.png"], [], where="r")
    two = find_images(tmp_path, ["two/*.png", "two/a.png"], [], where="r")
    assert [image.sha256 for image in one] == [image.sha256 for image in two]
    assert sorted(image.sha256 for image in one) == [image.sha256 for image in one]
    for image in one:
        assert image.sha256 == hashlib.sha256(image.path.read_bytes()).hexdigest()


def test_masks_are_paired_and_are_never_images(tmp_path: Path) -> None:
    write_images(tmp_path / "t", "1.png", "2.png", "3.png", "1.mask.png", "2_MASK.jpg")
    write_images(tmp_path / "m", "3.png")
    images = find_images(tmp_path, ["t/*"], ["m/*.png"], where="r", need_masks=True)
    pairs = {image.path.name: image.mask.relative_to(tmp_path).as_posix() for image in images if image.mask}
    assert pairs == {"1.png": "t/1.mask.png", "2.png": "t/2_MASK.jpg", "3.png": "m/3.png"}
    assert all(image.mask_sha256 for image in images)


def test_what_cannot_be_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_images(tmp_path / "t", "1.png", "2.png")
    write_images(tmp_path / "m", "1.png", "9.png")
    (tmp_path / "t" / "empty.gif").touch()
    with pytest.raises(PerfError) as caught:
        find_images(tmp_path, ["t/*.jpg"], [], where="recipes/t.toml")
    assert str(caught.value) == (
        "no image matches `t/*.jpg`\n  at recipes/t.toml, concept.images\n"
        f"  next: look in {tmp_path / 't'}, which has 1.png, 2.png, empty.gif"
    )
    with pytest.raises(PerfError, match=r"the mask `9.png` has no image"):
        find_images(tmp_path, ["t/*.png"], ["m/*.png"], where="r")
    with pytest.raises(PerfError, match=r"`2.png` has no mask"):
        find_images(tmp_path, ["t/*.png"], ["m/1.png"], where="r", need_masks=True)
    with pytest.raises(PerfError, match="empty file"):
        find_images(tmp_path, ["t/*"], [], where="r")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("b/img[1].png", ["b/img[1].png"]),
        ("b/img[12].png", ["b/img1.png"]),
        ("my [new] pics/*.png", ["my [new] pics/1.png"]),
        ("c/img.png", ["c/img.png"]),
        ("c/Img.png", ["c/IMG.PNG", "c/img.png"]),
        ("d/caf\u00e9.png", ["d/cafe\u0301.png"]),
        ("d/CAF\u00c9.*", ["d/cafe\u0301.png"]),
    ],
)
def test_a_name_that_is_there_is_that_file_alone(tmp_path: Path, pattern: str, found: list[str]) -> None:
    write_images(tmp_path / "b", "img[1].png", "img1.png")
    write_images(tmp_path / "my [new] pics", "1.png")
    write_images(tmp_path / "my n pics", "1.png")
    write_images(tmp_path / "c", "img.png", "IMG.PNG")
    write_images(tmp_path / "d", "cafe\u0301.png")
    assert [path.relative_to(tmp_path).as_posix() for path in matches(tmp_path, pattern)] == found


def names(images: Iterable[SourceImage]) -> dict[str, str | None]:
    return {image.path.name: image.mask.name if image.mask else None for image in images}


def test_a_folder_means_its_pictures(tmp_path: Path) -> None:
    write_images(tmp_path / "t [1]", "1.png", "2.JPG", "1.mask.png")
    (tmp_path / "t [1]" / "notes.txt").write_text("of no account")
    (tmp_path / "t [1]" / ".thumb.png").write_bytes(b"hidden")
    assert names(find_images(tmp_path, ["t [1]"], [], where="r")) == {"1.png": "1.mask.png", "2.JPG": None}


def test_a_mask_is_one_beside_its_picture_only(tmp_path: Path) -> None:
    write_images(tmp_path / "m", "red-mask.png", "wolf_mask.png", "3.png", "3_mask.png")
    assert names(find_images(tmp_path, ["m/*.png"], [], where="r")) == {
        "red-mask.png": None, "wolf_mask.png": None, "3.png": "3_mask.png",
    }  # fmt: skip
    assert names(find_images(tmp_path, ["m/red-mask.png"], [], where="r")) == {"red-mask.png": None}


@pytest.mark.parametrize(
    ("files", "images", "masks", "said"),
    [
        (
            ["1.png", "1.mask.png", "1_mask.png"],
            ["*"],
            [],
            r"`1.png` has 2 masks: `1.mask.png`, `1_mask.png`",
        ),
        (["1.png", "1.mask.png", "m/1.png"], ["*"], ["m/*"], "`1.png` has 2 masks: `1.png`, `1.mask.png`"),
        (["1.png", "m/1.png", "m/1.jpg"], ["*.png"], ["m/*"], "`1.png` has 2 masks: `1.jpg`, `1.png`"),
        (
            ["1.png", "1.jpg", "1.mask.png"],
            ["*"],
            [],
            r"`1.mask.png` could be that of `1.jpg` and of `1.png`",
        ),
        (["1.png", "1.jpg", "m/1.png"], ["*"], ["m/*"], "the mask `1.png` could be that of"),
        (["1.png", "2.png"], ["*"], ["2.png"], "`2.png` is listed as a picture and as a mask"),
        (["1.png", "1.mask.png"], ["1.png", "1.mask.png"], [], "and it is the mask of `1.png`"),
        (["1.png", "2.mask.png"], ["*"], [], "the mask `2.mask.png` has no image of the same name beside"),
    ],
)
def test_no_mask_is_taken_that_is_not_plainly_of_one_picture(
    tmp_path: Path, files: list[str], images: list[str], masks: list[str], said: str
) -> None:
    for name in files:
        write_images((tmp_path / name).parent, Path(name).name)
    with pytest.raises(PerfError, match=re.escape(said)):
        find_images(tmp_path, images, masks, where="r")


def test_a_folder_tells_of_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "2.PPM")
    for name in ("3.tga", "4.JP2", "5.svg"):
        (tmp_path / name).write_bytes(b"of a kind that is not decoded")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(PerfError) as caught:
        find_images(tmp_path.parent, [tmp_path.name], [], where="r.toml")
    said = str(caught.value)
    assert "3 mistakes" in said
    for kind in ("TGA", "JP2", "SVG"):
        assert f"{kind} pictures cannot be read" in said


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
def test_what_is_no_file_is_told_and_what_is_one_file_counts_once(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png")
    (tmp_path / "again.png").symlink_to("1.png")
    assert [source.path.name for source in find_images(tmp_path, ["*.png"], [], where="r")] == ["1.png"]
    os.mkfifo(tmp_path / "pipe.png")  # which nobody writes to: to open it is to wait for ever
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(PerfError, match="2 mistakes") as caught:
        find_images(tmp_path, ["*.png"], [], where="r")
    assert "no plain file" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PerfError, match="no pictures in the folder `empty`"):
        find_images(tmp_path, ["empty"], [], where="r")


def test_habits_of_naming_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "home", "1.png", "2.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert len(find_images(tmp_path, ["~/*.png"], [], where="r")) == 2
    for pattern, hint in (
        ("home/1.png,home/2.png", "without commas"),
        ("https://example.org/1.png", "download it"),
    ):
        with pytest.raises(PerfError) as caught:
            find_images(tmp_path, [pattern], [], where="r")
        assert hint in str(caught.value.hint)


def test_everything_that_can_be_no_picture_is_named_at_once(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "renamed.jpg")
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    (tmp_path / "renamed.jpg").write_bytes(b"\0\0\0\x18ftypmif1" + bytes(50))
    (tmp_path / "lfs.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(PerfError) as caught:
        find_images(tmp_path, ["*", "none/*"], [], where="r.toml")
    said = str(caught.value)
    assert "6 mistakes in the pictures" in said
    for name, why in {
        "phone.HEIC": "HEIC pictures cannot be read",
        "renamed.jpg": "HEIC pictures cannot be read",
        "lfs.png": "pointer of Git LFS",
        "gone.png": "the link leads nowhere",
        "empty.png": "an empty file",
    }.items():
        assert any(name in line and why in line for line in said.splitlines()), name
    assert "no image matches `none/*` (r.toml, concept.images)" in said


def test_a_home_is_looked_into_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "pics", "1.jpg")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(PerfError) as caught:
        find_images(tmp_path / "recipes", ["~/pics/*.png"], [], where="recipes/t.toml")
    assert caught.value.hint == f"look in {tmp_path / 'pics'}, which has 1.jpg"
    monkeypatch.chdir(tmp_path)  # where such a drive is a folder
    write_images(tmp_path / "C:" / "me", "2.png")
    monkeypatch.setenv("HOME", "C:/me")
    assert matches(tmp_path / "recipes", "~/*.png") == [Path("C:/me/2.png")]
