"""What notebooks show of sparse vectors."""

from __future__ import annotations

import numpy as np

from parsed_page import parsed
from trivec.vectors.sparse import SparseMatrix


def cells(matrix: SparseMatrix) -> list[list[str]]:
    rows = parsed(matrix._repr_html_()).all("tr")
    return [[one.text for one in row.elements if one.name in ("th", "td")] for row in rows]


def test_a_row_shows_its_heaviest_tokens() -> None:
    row = SparseMatrix(np.array([[0, 0.25, 0, 1.5, 0.25]], np.float32))
    assert cells(row) == [["token id", "weight"], ["3", "1.5"], ["1", "0.25"], ["4", "0.25"]]
    assert "<SparseMatrix 1 x 5, float32, 3 weights>" in parsed(row._repr_html_()).text


def test_no_more_than_twenty_are_shown() -> None:
    many = SparseMatrix(np.arange(1, 31, dtype=np.float32)[None])
    assert [row[0] for row in cells(many)[1:]] == [str(i) for i in range(29, 9, -1)]
    assert "10 more weights" in many._repr_html_()
    tall = SparseMatrix(np.eye(30, dtype=np.float32))
    assert len(cells(tall)) == 21
    assert "10 more rows" in tall._repr_html_()


def test_of_many_rows_each_has_its_number_of_weights_and_the_largest() -> None:
    matrix = SparseMatrix(np.array([[0, 2, 0, 1], [0, 0, 0, 0], [3, 0, 5, 0]], np.float32))
    assert cells(matrix)[1:] == [["0", "2", "1: 2, 3: 1"], ["1", "0", ""], ["2", "2", "2: 5, 0: 3"]]
    assert cells(matrix[1]) == []  # without weights


def test_any_type_of_numbers_can_be_shown() -> None:
    for kind in (bool, np.int8, np.float64):
        assert len(cells(SparseMatrix(np.eye(3, dtype=kind)))) == 4
    assert parsed(SparseMatrix((0, 7))._repr_html_()).text == "<SparseMatrix 0 x 7, float64, 0 weights>"
