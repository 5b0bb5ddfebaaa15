"""`trivec encode`: documents into a file of vectors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from trivec.cli import options, reporting


def encode(
    paths: options.Paths,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .npz or .parquet.", show_default=False)],
    dense: Annotated[bool, typer.Option("--dense/--no-dense", help="Dense vectors.")] = True,
    sparse: Annotated[bool, typer.Option("--sparse/--no-sparse", help="Sparse vectors.")] = True,
    colbert: Annotated[bool, typer.Option("--colbert/--no-colbert", help="Token vectors: 4 KB a token.")] = False,
    text_field: options.TextField = "text",
    id_field: options.IdField = None,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens of a document that are encoded. Default: the model's maximum.")
    ] = None,
    batch_size: options.BatchSize = 16,
    model: options.Model = options.DEFAULT_MODEL,
    precision: options.PrecisionOption = options.Precision.auto,
    device: options.Device = None,
    engine: options.EngineOption = options.Engine.auto,
    revision: options.Revision = None,
    offline: options.Offline = False,
    threads: options.Threads = None,
    no_cache: options.NoCache = False,
) -> None:
    """Encode documents, one vector of each kind for a document, and write them to a file.

    A .npz file holds: ids; dense (n x dim); sparse_data, sparse_indices, sparse_indptr and sparse_shape (CSR);
    colbert_vecs (all tokens x dim) and colbert_offsets (n + 1). A .parquet file holds a row a document: id, dense,
    sparse_indices, sparse_values, colbert_vecs; it is written in flat memory. The file appears once it is complete.

    [dim]Examples:[/]

    trivec encode notes/ --out notes.npz

    trivec encode corpus.jsonl --text-field body --out corpus.parquet --no-sparse
    """
    if not (dense or sparse or colbert):
        raise typer.BadParameter("nothing to compute: leave out --no-dense or --no-sparse, or add --colbert")
    from trivec.documents import document_total, read_documents
    from trivec.vector_files import check_path, save_vectors

    check_path(out)
    documents = read_documents(paths, text_field=text_field, id_field=id_field, metadata_fields=[])
    ids: deque[str] = deque()  # of the texts that are in the encoder

    def texts() -> Iterator[str]:
        for document in documents:
            ids.append(document.id)
            yield document.text

    with options.load_model(model, precision, device, engine, revision, offline, threads, no_cache) as loaded:
        options.require_head(loaded.has_sparse or not sparse, model, "sparse", "add --no-sparse")
        options.require_head(loaded.has_colbert or not colbert, model, "colbert", "leave out --colbert")
        try:
            loaded.checked_length(max_length)
        except ValueError as error:
            raise typer.BadParameter(f"--max-length: {error}") from error
        vectors = loaded.encode_stream(
            texts(),
            batch_size=batch_size,
            max_length=max_length,
            return_dense=dense,
            return_sparse=sparse,
            return_colbert_vecs=colbert,
            show_progress=False,
        )
        encoded = reporting.counted(vectors, "Encoding", document_total(paths))
        written = save_vectors(out, ((ids.popleft(), embedding) for embedding in encoded))
    reporting.say(f"{written} documents encoded to {out}")
