from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.resolve import find_files, find_images
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
        ("a/../B/*.jpg", ["a/../B/5.jpg"]),
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
