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

Kinds of vectors that were not computed are left out. This module knows nothing about models.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trivec.embeddings import M3Embedding
from trivec.errors import MissingExtraError, TrivecError
from trivec.sparse import stack_rows

SUFFIXES = (".npz", ".parquet")

# A row group of a Parquet file is held in memory: this many rows, or the rows that reach this many bytes of vectors.
_ROWS_PER_GROUP = 1_024
_BYTES_PER_GROUP = 2**26


def check_path(path: Path) -> None:
    """Make sure that vectors can be written to `path`, before they are computed.

    Raises:
        TrivecError: the name does not end in .npz or .parquet, is that of a folder, or no file can be made beside it.
        MissingExtraError: it ends in .parquet and pyarrow is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise TrivecError(f"{path} must end in {' or '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise TrivecError(f"cannot write {path}: its folder does not exist")
    if path.is_dir():
        raise TrivecError(f"cannot write {path}: it is a folder")
    if path.suffix == ".parquet":
        _pyarrow()
    part = _part(path)
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise TrivecError(f"cannot write {path}: {error.strerror or error}") from error


def save_vectors(path: str | Path, vectors: Iterable[tuple[str, M3Embedding]]) -> int:
    """Write ids and vectors to a file; what was there before is replaced only once all is written.

    Example:
        >>> save_vectors("notes.npz", zip(ids, model.encode_stream(texts)))  # doctest: +SKIP
        >>> np.load("notes.npz")["dense"].shape  # doctest: +SKIP
        (2, 1024)

    Args:
        path: A path that ends in .npz or .parquet.
        vectors: (id, vectors) of each text, with the same kinds of vectors throughout.

    Returns:
        The number of texts written.

    Raises:
        TrivecError: as `check_path`.
    """
    path = Path(path)
    check_path(path)
    with _replacing(path) as part:
        return _save_npz(part, vectors) if path.suffix == ".npz" else _save_parquet(part, vectors)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes the place of `path` if all goes well and is removed if not."""
    part = _part(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _save_npz(path: Path, vectors: Iterable[tuple[str, M3Embedding]]) -> int:
    ids, embeddings = [], []
    for identifier, embedding in vectors:
        ids.append(identifier)
        embeddings.append(embedding)
    arrays: dict[str, Any] = {"ids": np.array(ids, dtype=np.str_)}
    dense = [embedding.dense for embedding in embeddings if embedding.dense is not None]
    sparse = [embedding.sparse for embedding in embeddings if embedding.sparse is not None]
    colbert = [embedding.colbert_vecs for embedding in embeddings if embedding.colbert_vecs is not None]
    if dense:
        arrays["dense"] = np.stack(dense)
    if sparse:
        matrix = stack_rows(sparse)
        arrays |= {f"sparse_{name}": getattr(matrix, name) for name in ("data", "indices", "indptr", "shape")}
    if colbert:
        arrays["colbert_vecs"] = np.concatenate(colbert)
        arrays["colbert_offsets"] = np.cumsum([0, *map(len, colbert)])
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    return len(ids)


def _save_parquet(path: Path, vectors: Iterable[tuple[str, M3Embedding]]) -> int:
    pa, pq = _pyarrow()
    groups = _groups(vectors)
    group = next(groups, [])
    written = 0
    table = _table(pa, group)
    with pq.ParquetWriter(path, table.schema, use_dictionary=False) as writer:
        while group:
            writer.write_table(table)
            written += len(group)
            group = next(groups, [])
            table = _table(pa, group)
    return written


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
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow") from error
    return pa, pq
