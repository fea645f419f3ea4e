"""Sheets are judged by eye; these tests hold what an eye would miss or what a change could break silently."""

import numpy as np
import pytest
from PIL import Image

from perfusion_registry.render.canvas import MARGIN, PAPER, text_width, tile, wrapped
from perfusion_registry.render.grid import SweepCell, sweep_sheet
from perfusion_registry.render.sheet import TILE, Reference, Tile, contact_sheet

COLOURS = [
    (200, 30, 30),
    (30, 160, 60),
    (40, 60, 200),
    (220, 180, 20),
    (120, 30, 160),
    (20, 160, 170),
    (90, 90, 90),
]


class Drawn:
    def __init__(self, image):
        self.image = image


def plain(colour, size=(64, 64)):
    return Image.new("RGB", size, colour)


def count(sheet, colour):
    return int((np.asarray(sheet) == np.array(colour)).all(-1).sum())


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 128), (512, 512)])
def test_every_picture_is_on_the_sheet_at_full_size(number, size):
    tiles = [Tile(plain(colour, size), f"seed {n}") for n, colour in enumerate(COLOURS[:number])]
    sheet = contact_sheet("A teddy* sailing", [], tiles)
    scale = TILE / max(size)
    area = round(size[0] * scale) * round(size[1] * scale)
    assert [count(sheet, colour) for colour in COLOURS[:number]] == [area] * number


def test_references_stand_left_of_the_pictures():
    reference = Reference("teddy*", "a teddy, 1.0.0", [plain(COLOURS[0], (300, 200))] * 3)
    sheet = np.asarray(contact_sheet("A teddy*", [reference], [Tile(plain(COLOURS[1]), "seed 0")]))
    reference_columns = np.nonzero((sheet == COLOURS[0]).all(-1))[1]
    picture_columns = np.nonzero((sheet == COLOURS[1]).all(-1))[1]
    assert len(reference_columns) > 3 * 5000
    assert reference_columns.max() < picture_columns.min()


def test_the_margins_stay_empty():
    title = "A teddy* sailing in a teapot* on a very long sea of words " * 12
    reference = Reference("a-name-" * 12, "a caption " * 20, [plain(COLOURS[0])] * 9)
    tiles = [Tile(plain(COLOURS[1]), "a long caption " * 10)] * 4
    sheet = np.asarray(contact_sheet(title, [reference], tiles, note="note " * 200))
    inner = sheet[MARGIN - 4 : 4 - MARGIN, MARGIN - 4 : 4 - MARGIN]
    ink = (sheet != np.array(PAPER)).any(-1).sum()
    assert ink == (inner != np.array(PAPER)).any(-1).sum()


def test_a_sweep_puts_each_gate_in_its_place():
    biases, temperatures = (0.4, 0.6, 0.8), (0.1, 0.15)
    cells = [
        SweepCell(bias, temperature, Drawn(plain(COLOURS[row * 3 + column])))
        for row, temperature in enumerate(temperatures)
        for column, bias in enumerate(biases)
    ]
    sheet = np.asarray(sweep_sheet("A teddy*", cells[::-1], ("bias", "temperature")))
    centres = [np.argwhere((sheet == colour).all(-1)).mean(0) for colour in COLOURS[:6]]
    rows, columns = np.array([c[0] for c in centres]), np.array([c[1] for c in centres])
    assert rows[:3].tolist() == [rows[0]] * 3
    assert rows[0] < rows[3]
    assert columns[0] < columns[1] < columns[2]
    assert np.allclose(columns[:3], columns[3:])


def test_a_tile_keeps_proportions():
    wide = np.asarray(tile(plain(COLOURS[0], (100, 50)), (80, 80)))
    assert (wide[20:60] == COLOURS[0]).all()
    assert (wide[:20] == PAPER).all()


def test_lines_fit_their_width():
    for line in wrapped("word " * 40 + "x" * 300, 20, 250, 5):
        assert text_width(line, 20) <= 250
    assert wrapped("", 20, 100, 2) == [""]
