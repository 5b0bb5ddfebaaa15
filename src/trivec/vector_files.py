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
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trivec.embeddings import M3Embedding
from trivec.errors import MissingExtraError, TrivecError
from trivec.sparse import stack_rows

SUFFIXES = (".npz", ".parquet")

_ROWS_PER_GROUP = 1_024


def check_path(path: Path) -> None:
    """Make sure that vectors can be written to `path`, before they are computed.

    Raises:
        TrivecError: the name does not end in .npz or .parquet, or its folder does not exist.
        MissingExtraError: it ends in .parquet and pyarrow is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise TrivecError(f"{path} must end in {' or '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise TrivecError(f"cannot write {path}: its folder does not exist")
    if path.suffix == ".parquet":
        _pyarrow()


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
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
    iterator = iter(vectors)
    group = list(islice(iterator, _ROWS_PER_GROUP))
    written = 0
    schema = _parquet_schema(pa, group[0][1] if group else None)
    with pq.ParquetWriter(path, schema) as writer:
        while group:
            writer.write_table(pa.Table.from_pylist([_parquet_row(*pair) for pair in group], schema=schema))
            written += len(group)
            group = list(islice(iterator, _ROWS_PER_GROUP))
    return written


def _parquet_schema(pa: Any, first: M3Embedding | None) -> Any:
    fields = [("id", pa.string())]
    if first is not None and first.dense is not None:
        fields.append(("dense", pa.list_(pa.float32())))
    if first is not None and first.sparse is not None:
        fields += [("sparse_indices", pa.list_(pa.int32())), ("sparse_values", pa.list_(pa.float32()))]
    if first is not None and first.colbert_vecs is not None:
        fields.append(("colbert_vecs", pa.list_(pa.list_(pa.float32()))))
    return pa.schema(fields)


def _parquet_row(identifier: str, embedding: M3Embedding) -> dict[str, Any]:
    row: dict[str, Any] = {"id": identifier}
    if embedding.dense is not None:
        row["dense"] = embedding.dense
    if embedding.sparse is not None:
        row |= {"sparse_indices": embedding.sparse.indices, "sparse_values": embedding.sparse.data}
    if embedding.colbert_vecs is not None:
        row["colbert_vecs"] = list(embedding.colbert_vecs)
    return row


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow") from error
    return pa, pq
