import os

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.render.metadata import png_bytes
from perfusion_registry.render.output import check_formats, chosen_format, picture_paths, slug, write_picture
from tests.render.samples import picture, render_record


@pytest.mark.parametrize(
    ("prompt", "stem"),
    [
        ("A teddy* sailing in a teapot*", "a-teddy-sailing-in-a-teapot"),
        ("Größe, café!", "groe-cafe"),
        ("../../etc/passwd", "etc-passwd"),
        ("熊", "picture"),
        ("word " * 40, "-".join(["word"] * 12)),
        ("x" * 200, "x" * 60),
    ],
)
def test_a_prompt_names_its_files(prompt, stem):
    assert slug(prompt) == stem


def save(path, record):
    path.write_bytes(png_bytes(picture(), record))


def test_a_folder_gets_the_prompt_and_the_seed(tmp_path):
    records = [render_record(seeds=(seed,)) for seed in (0, 7)]
    paths = picture_paths(tmp_path, "a-teddy", records, force=False)
    assert [path.name for path in paths] == ["a-teddy-0.png", "a-teddy-7.png"]


def test_another_picture_of_that_name_is_left_alone(tmp_path):
    save(tmp_path / "a-0.png", render_record(prompt="A teddy* sleeping", seeds=(0,)))
    (path,) = picture_paths(tmp_path, "a", [render_record(seeds=(0,))], force=False)
    assert path.name == "a-0-2.png"
    save(path, render_record(seeds=(0,)))
    assert picture_paths(tmp_path, "a", [render_record(seeds=(0,))], force=False) == [path]


def test_a_named_file_is_overwritten_by_the_same_picture_or_force_only(tmp_path):
    out = tmp_path / "a.png"
    same, other = render_record(seeds=(0,)), render_record(seeds=(1,))
    save(out, same)
    assert picture_paths(out, "x", [same], force=False) == [out]
    with pytest.raises(PerfError, match="another file"):
        picture_paths(out, "x", [other], force=False)
    assert picture_paths(out, "x", [other], force=True) == [out]
    out.write_bytes(b"something else entirely")
    with pytest.raises(PerfError, match="another file"):
        picture_paths(out, "x", [same], force=False)


def test_several_pictures_of_one_name_get_their_seeds(tmp_path):
    records = [render_record(seeds=(seed,)) for seed in (0, 7)]
    paths = picture_paths(tmp_path / "a.png", "x", records, force=False)
    assert [path.name for path in paths] == ["a-0.png", "a-7.png"]


def test_another_format_is_refused(tmp_path):
    for out, sheet in ((tmp_path / "a.gif", None), (None, tmp_path / "sheet"), (None, tmp_path / "s.pdf")):
        with pytest.raises(PerfError, match="PNG, JPEG or WebP"):
            check_formats(out, sheet)
    (tmp_path / "v1.5").mkdir()
    check_formats(tmp_path / "v1.5", tmp_path / "a.PNG")
    check_formats(tmp_path / "a.JPG", tmp_path / "a.webp")


def test_the_format_is_that_of_the_name_or_of_the_option(tmp_path):
    assert chosen_format(None, None, None) == "png"
    assert chosen_format(tmp_path, "webp", 100) == "webp"
    assert chosen_format(tmp_path / "a.jpeg", None, 1) == "jpeg"
    for out, said, quality, what in (
        (tmp_path / "a.png", "jpeg", None, "--out names a PNG file, and --format asks for JPEG"),
        (tmp_path, None, 90, "PNG loses nothing"),
        (tmp_path, "jpeg", 101, "not one of 1 to 100"),
        (tmp_path, "webp", 0, "not one of 1 to 100"),
    ):
        with pytest.raises(PerfError, match=what):
            chosen_format(out, said, quality)


def test_names_of_another_format_have_its_ending(tmp_path):
    records = [render_record(seeds=(seed,)) for seed in (0, 7)]
    paths = picture_paths(tmp_path, "a", records, force=False, suffix=".jpg")
    assert [path.name for path in paths] == ["a-0.jpg", "a-7.jpg"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PerfError) as caught:
        write_picture(tmp_path / "file" / "a.png", b"")
    assert "file" in caught.value.where
    write_picture(tmp_path / "new" / "folder" / "a.png", b"x")
    assert os.listdir(tmp_path / "new" / "folder") == ["a.png"]
