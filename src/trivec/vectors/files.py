"""Writing vectors to .npz and .parquet files, whole or not at all.

NumPy archive (.npz), read with `numpy.load` and held in memory while it is written:

    ids                            (n,) str
    dense                          (n, dim) float32
    sparse_data, sparse_indices,
    sparse_indptr, sparse_shape    CSR, n x vocabulary: `csr_array((data, indices, indptr), shape=shape)`
    colbert_vecs, colbert_offsets  (all tokens, dim) float32, (n + 1,): text i has rows offsets[i] to offsets[i + 1]

Parquet (.parquet), written as the vectors come, in flat memory; a row for each text:

    id                             string
    dense                          list of float32
    sparse_indices, sparse_values  list of int32, list of float32
    colbert_vecs                   list of lists of float32

JSON lines, written to a stream as the vectors come: a line for each text, with the Parquet file's columns as keys.

Kinds of vectors that were not computed are left out. This module knows nothing about models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from trivec.errors import TrivecError
from trivec.support import part_files
from trivec.support.extras import require
from trivec.vectors.embeddings import M3Embedding
from trivec.vectors.sparse import SparseMatrix, stack_rows

SUFFIXES = (".npz", ".parquet")

# A row group of a Parquet file is held in memory: this many rows, or the rows that reach this many bytes of vectors.
_ROWS_PER_GROUP = 1_024
_BYTES_PER_GROUP = 2**26


def check_path(path: Path) -> None:
    """Make sure that vectors can be written to `path`, before they are computed.

    Raises:
        TrivecError: The name does not end in .npz or .parquet, is that of a folder, or no file can be made beside it.
        MissingExtraError: It ends in .parquet and pyarrow is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise TrivecError(f"{path} must end in {' or '.join(SUFFIXES)}")
    part_files.check_writable(path)
    if path.suffix == ".parquet":
        _pyarrow()


def save_vectors(
    path: str | Path, vectors: Iterable[tuple[str, M3Embedding]], dims: Mapping[str, int] | None = None
) -> int:
    """Write ids and vectors to a file; what was there before is replaced only once all is written.

    Example:
        >>> save_vectors("notes.npz", zip(ids, model.encode_stream(texts)))  # doctest: +SKIP
        >>> np.load("notes.npz")["dense"].shape  # doctest: +SKIP
        (2, 1024)

    Args:
        path: A path that ends in .npz or .parquet.
        vectors: (id, vectors) of each text, with the same kinds of vectors throughout.
        dims: The kinds of vectors and their sizes ("dense", "sparse", "colbert_vecs", as in `M3Model.dim`), so that a
            file of no texts at all has them too, with no rows. None: such a file has ids only.

    Returns:
        The number of texts written.

    Raises:
        TrivecError: As `check_path`; or the disk is full, or writing fails otherwise.
    """
    path = Path(path)
    check_path(path)
    save = _save_npz if path.suffix == ".npz" else _save_parquet
    of_the_source: list[OSError] = []

    def watched() -> Iterator[tuple[str, M3Embedding]]:
        try:
            yield from vectors
        except OSError as error:
            of_the_source.append(error)
            raise

    try:
        with part_files.replacing(path) as part:
            return save(part, watched(), dims or {})
    except OSError as error:
        if error in of_the_source:
            raise
        raise part_files.cannot_write(path, error) from error


def write_json_lines(stream: TextIO, vectors: Iterable[tuple[str, M3Embedding]]) -> int:
    """Write ids and vectors to a stream as they come, a JSON object a line, and return how many.

    Numbers have nine digits, which tell all float32 values apart, so that they are read back unchanged.

    Example of a line:
        {"id": "a", "dense": [0.12, ...], "sparse_indices": [6, 85], "sparse_values": [0.2, 0.1]}
    """
    written = 0
    for identifier, embedding in vectors:
        parts = [f'"id": {json.dumps(identifier)}']
        if embedding.dense is not None:
            parts.append(f'"dense": {_json_numbers(embedding.dense)}')
        if embedding.sparse is not None:
            parts.append(f'"sparse_indices": {embedding.sparse.indices.tolist()}')
            parts.append(f'"sparse_values": {_json_numbers(embedding.sparse.data)}')
        if embedding.colbert_vecs is not None:
            parts.append(f'"colbert_vecs": [{", ".join(map(_json_numbers, embedding.colbert_vecs))}]')
        stream.write(f"{{{', '.join(parts)}}}\n")
        written += 1
    return written


def _json_numbers(vector: np.ndarray[Any, Any]) -> str:
    """Return float32 numbers as JSON, ten times as fast as `json.dumps` of their shortest forms."""
    return f"[{', '.join(['%.9g'] * len(vector)) % tuple(vector.tolist())}]"


def _save_npz(path: Path, vectors: Iterable[tuple[str, M3Embedding]], dims: Mapping[str, int]) -> int:
    ids, embeddings = [], []
    for identifier, embedding in vectors:
        ids.append(identifier)
        embeddings.append(embedding)
    arrays: dict[str, Any] = {"ids": np.array(ids, dtype=np.str_)}
    dense = [embedding.dense for embedding in embeddings if embedding.dense is not None]
    sparse = [embedding.sparse for embedding in embeddings if embedding.sparse is not None]
    colbert = [embedding.colbert_vecs for embedding in embeddings if embedding.colbert_vecs is not None]
    empty = dims if not embeddings else {}
    if dense or "dense" in empty:
        arrays["dense"] = np.stack(dense) if dense else np.empty((0, empty["dense"]), np.float32)
    if sparse or "sparse" in empty:
        matrix = stack_rows(sparse) if sparse else SparseMatrix((0, empty["sparse"]), dtype=np.float32)
        arrays |= {f"sparse_{name}": getattr(matrix, name) for name in ("data", "indices", "indptr", "shape")}
    if colbert or "colbert_vecs" in empty:
        arrays["colbert_vecs"] = np.concatenate(colbert or [np.empty((0, empty["colbert_vecs"]), np.float32)])
        arrays["colbert_offsets"] = np.cumsum([0, *map(len, colbert)])
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    return len(ids)


def _save_parquet(path: Path, vectors: Iterable[tuple[str, M3Embedding]], dims: Mapping[str, int]) -> int:
    pa, pq = _pyarrow()
    groups = _groups(vectors)
    group = next(groups, [])
    written = 0
    table = _table(pa, group) if group else _empty_table(pa, dims)
    with pq.ParquetWriter(path, table.schema, use_dictionary=False) as writer:
        while group:
            writer.write_table(table)
            written += len(group)
            group = next(groups, [])
            table = _table(pa, group)
    return written


def _empty_table(pa: Any, dims: Mapping[str, int]) -> Any:
    numbers = pa.list_(pa.float32())
    columns = {"id": pa.string()}
    if "dense" in dims:
        columns["dense"] = numbers
    if "sparse" in dims:
        columns |= {"sparse_indices": pa.list_(pa.int32()), "sparse_values": numbers}
    if "colbert_vecs" in dims:
        columns["colbert_vecs"] = pa.list_(numbers)
    return pa.schema(list(columns.items())).empty_table()


def _groups(vectors: Iterable[tuple[str, M3Embedding]]) -> Iterator[list[tuple[str, M3Embedding]]]:
    group: list[tuple[str, M3Embedding]] = []
    size = 0
    for identifier, embedding in vectors:
        group.append((identifier, embedding))
        sparse = None if embedding.sparse is None else embedding.sparse.data
        size += sum(array.nbytes for array in (embedding.dense, sparse, embedding.colbert_vecs) if array is not None)
        if len(group) == _ROWS_PER_GROUP or size >= _BYTES_PER_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _table(pa: Any, group: list[tuple[str, M3Embedding]]) -> Any:
    """Return the rows as an Arrow table whose columns are made from whole arrays, not element by element."""
    columns = {"id": pa.array([identifier for identifier, _ in group], pa.string())}
    dense = [embedding.dense for _, embedding in group if embedding.dense is not None]
    sparse = [embedding.sparse for _, embedding in group if embedding.sparse is not None]
    colbert = [embedding.colbert_vecs for _, embedding in group if embedding.colbert_vecs is not None]
    if dense:
        columns["dense"] = _lists(pa, dense, pa.float32())
    if sparse:
        columns["sparse_indices"] = _lists(pa, [row.indices for row in sparse], pa.int32())
        columns["sparse_values"] = _lists(pa, [row.data for row in sparse], pa.float32())
    if colbert:
        tokens = np.concatenate(colbert)
        ends = np.arange(len(tokens) + 1, dtype=np.int32) * tokens.shape[1]
        vectors = pa.ListArray.from_arrays(ends, pa.array(tokens.reshape(-1), pa.float32()))
        columns["colbert_vecs"] = pa.ListArray.from_arrays(_ends(colbert), vectors)
    return pa.table(columns)


def _lists(pa: Any, arrays: list[Any], element: Any) -> Any:
    """Return an Arrow column with a list for each of the arrays (each 1-D)."""
    return pa.ListArray.from_arrays(_ends(arrays), pa.array(np.concatenate(arrays), element))


def _ends(arrays: list[Any]) -> np.ndarray[Any, Any]:
    return np.cumsum([0, *map(len, arrays)], dtype=np.int32)


def _pyarrow() -> tuple[Any, Any]:
    return require("pyarrow"), require("pyarrow.parquet")
