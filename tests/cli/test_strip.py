"""A strip is a table of pictures: every one stands where its row and its column say."""

import numpy as np

from palate.cli.pictures import strip

SIDE = 192


def colour(red: int, green: int) -> np.ndarray:
    return np.tile(np.array([red, green, 255], dtype=np.uint8), (16, 16, 1))


def test_rows_are_prompts_and_columns_are_shares():
    rows = [[colour(60 * column, 100 * row) for column in range(4)] for row in range(2)]
    made = strip(rows, ["first", "second"], ["0 %", "33 %", "67 %", "100 %"])
    pixels = np.asarray(made)
    assert pixels.shape[1] == 4 * (SIDE + 8) + 8
    for row in range(2):
        for column in range(4):
            y = 14 + 16 + row * (SIDE + 22) + SIDE // 2
            x = 8 + column * (SIDE + 8) + SIDE // 2
            assert tuple(pixels[y, x]) == (60 * column, 100 * row, 255)


def test_every_column_has_its_label_above_and_every_row_its_caption_below():
    blank = [[np.full((8, 8, 3), 255, np.uint8)] * 2] * 2
    bare = np.asarray(strip(blank, ["", ""], ["", ""]))
    assert bare.min() == 255
    labelled = np.asarray(strip(blank, ["", ""], ["", "100 %"]))
    assert labelled[:26, :SIDE].min() == 255
    assert labelled[:26, SIDE + 8 :].min() < 255
    captioned = np.asarray(strip(blank, ["", "a red circle"], ["", ""]))
    lower = 14 + 16 + SIDE + 22 + SIDE
    assert captioned[:lower].min() == 255
    assert captioned[lower:].min() < 255


def test_a_caption_longer_than_its_row_is_cut():
    blank = [[np.full((8, 8, 3), 255, np.uint8)]]
    made = np.asarray(strip(blank, ["long " * 60], ["here"]))
    assert made.shape[1] == SIDE + 16
    assert made[:, -4:].min() == 255
