"""Sparse vectors as an HTML table without scripts, for notebooks: the largest weights, by token id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trivec.support.html_text import shown

if TYPE_CHECKING:
    from trivec.vectors.sparse import SparseMatrix

# Rows of the table; of several texts, weights of each.
_ROWS, _WEIGHTS = 20, 5


def table_of_weights(matrix: SparseMatrix) -> str:
    """Return the largest weights of one text, or of many a row each with the largest few."""
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    if len(matrix) == 1:
        header = ("token id", "weight")
        rows = _heaviest(matrix, 0, _ROWS)
        left_out, noun = matrix.nnz - len(rows), "weights"
    else:
        header = ("row", "weights", "largest, by token id")
        rows = [
            (str(i), str(matrix.indptr[i + 1] - matrix.indptr[i]), _joined(matrix, i))
            for i in range(min(len(matrix), _ROWS))
        ]
        left_out, noun = len(matrix) - len(rows), "rows"
    parts = [f"<p>{shown(repr(matrix))}</p>"]
    if rows:
        top = "".join(f"<th>{name}</th>" for name in header)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        parts.append(f"<table><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table>")
    if left_out:
        parts.append(f"<p>{left_out:,} more {noun}</p>")
    return "".join(parts)


def _heaviest(matrix: SparseMatrix, row: int, count: int) -> list[tuple[str, ...]]:
    """Token ids and weights of a row, as texts, the largest weight first; of equal ones the lower id."""
    of_row = slice(matrix.indptr[row], matrix.indptr[row + 1])
    ids, weights = matrix.indices[of_row], matrix.data[of_row]
    order = np.lexsort((-ids, weights))[::-1][:count]
    return [(str(ids[i]), f"{weights[i]:.4g}") for i in order]


def _joined(matrix: SparseMatrix, row: int) -> str:
    return ", ".join(f"{token_id}: {weight}" for token_id, weight in _heaviest(matrix, row, _WEIGHTS))
