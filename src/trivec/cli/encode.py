"""`trivec encode`: documents into a file of vectors, or into JSON lines on stdout."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from trivec.cli import options, reporting
from trivec.cli.encode_folder import FolderOptions, check_folders, encode_into_folder, is_folder
from trivec.cli.sources import open_sources
from trivec.errors import TrivecError

if TYPE_CHECKING:
    from trivec.documents import Document
    from trivec.vectors.embeddings import M3Embedding


@options.grouped
def encode(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Files (.txt .md .html .jsonl .csv .tsv .parquet), folders of such files, or - for lines of stdin; "
            "into a folder, URIs such as s3://bucket/key too.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write, .npz or .parquet, or a folder of Parquet files: notes/, s3://bucket/notes.",
            show_default=False,
        ),
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print JSON lines instead.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists, without asking.")] = False,
    dense: Annotated[bool, typer.Option("--dense/--no-dense", help="Dense vectors.")] = True,
    sparse: Annotated[bool, typer.Option("--sparse/--no-sparse", help="Sparse vectors.")] = True,
    colbert: Annotated[bool, typer.Option("--colbert/--no-colbert", help="Token vectors: 4 KB a token.")] = False,
    source_options: options.SourceOptions,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens of a document that are encoded. Default: the model's maximum.")
    ] = None,
    mcls: options.Mcls = None,
    max_batch_tokens: options.MaxBatchTokens = None,
    model: options.Model = options.DEFAULT_MODEL,
    model_options: options.ModelOptions,
    folder_options: FolderOptions,
) -> None:
    """Encode documents, one vector of each kind for a document, and write them to a file or as JSON lines.

    A .npz file holds: ids; dense (n x dim); sparse_data, sparse_indices, sparse_indptr and sparse_shape (CSR);
    colbert_vecs (all tokens x dim) and colbert_offsets (n + 1). A .parquet file holds a row a document: id, dense,
    sparse_indices, sparse_values, colbert_vecs; it is written in flat memory. The file appears once it is complete.
    JSON lines have the same names. All files are looked through before the model is loaded.

    A folder ([bold]--out notes/[/]) is for what takes long: its files hold at most so many documents each, appear one
    after another, and are left as they are by the same command run again, which goes on where the last one ended,
    however it ended. Run it several times at once, on any machines that share the folder, and they share the work.

    [dim]Examples:[/]

    trivec encode notes/ --out notes.npz

    trivec encode corpus.jsonl --text-field body --out corpus.parquet --no-sparse

    cat lines.txt | trivec encode - --jsonl

    trivec encode corpus.jsonl --out vectors/ --token-vectors int8

    trivec encode corpus.jsonl --out vectors/ --for-milvus

    trivec encode --check vectors/

    trivec encode s3://bucket/corpus --out s3://bucket/vectors --ray auto --workers 8
    """
    if folder_options.check:
        check_folders(paths)
        return
    folder_options.require_folder(out)
    if out is not None and is_folder(out):
        if jsonl:
            raise typer.BadParameter("say where to write: either --out FOLDER/ or --jsonl")
        vectors_asked = {"dense": dense, "sparse": sparse, "token_vectors": folder_options.form(colbert)}
        limits = {"mcls": mcls, "max_length": max_length, "max_batch_tokens": max_batch_tokens}
        encode_into_folder(paths, out, model, vectors_asked | limits, source_options, model_options, folder_options)
        return
    if not (dense or sparse or colbert):
        raise typer.BadParameter("nothing to compute: leave out --no-dense or --no-sparse, or add --colbert")
    if (out is None) is not jsonl:
        raise typer.BadParameter("say where to write: either --out FILE or --jsonl")
    file = None if out is None else Path(out)
    if file is not None:
        _check(file, force)
    sources = open_sources(
        [Path(path) for path in paths], source_options, metadata_fields=[], skipped_beside=file or Path("stdout")
    )
    texts = _Texts(sources) if sources.total is None else _CountedTexts(sources, sources.total)
    with model_options.load(model) as loaded:
        options.require_head(loaded.has_sparse or not sparse, model, "sparse", "add --no-sparse")
        options.require_head(loaded.has_colbert or not colbert, model, "colbert", "leave out --colbert")
        try:
            loaded.checked_length(max_length)
        except ValueError as error:
            raise typer.BadParameter(f"--max-length: {error}") from error
        vectors = loaded.encode_stream(
            texts,
            max_batch_tokens=max_batch_tokens,
            max_length=max_length,
            return_dense=dense,
            return_sparse=sparse,
            return_colbert_vecs=colbert,
            mcls=mcls,
            # On a terminal, lines of vectors and a bar would be one muddle.
            show_progress=reporting.stderr.is_terminal and (file is not None or not sys.stdout.isatty()),
        )
        asked_for = {"dense": dense, "sparse": sparse, "colbert_vecs": colbert}
        dims = {name: loaded.dim[name] for name, wanted in asked_for.items() if wanted}
        # Closed first of all, whatever ends the writing: the progress bar is then left on a line of its own.
        with closing(cast("Generator[M3Embedding, None, None]", vectors)):
            _write(file, ((texts.ids.popleft(), embedding) for embedding in vectors), dims, sources.total)


class _Texts:
    """The texts of documents, read once; the ids of those that are in the encoder wait in `ids`."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = documents
        self.ids: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        for document in self._documents:
            self.ids.append(document.id)
            yield document.text


class _CountedTexts(_Texts):
    """The same, where it is known how many they are: a progress bar can say how long the rest takes."""

    def __init__(self, documents: Iterable[Document], total: int) -> None:
        super().__init__(documents)
        self._total = total

    def __len__(self) -> int:
        return self._total


def _write(
    out: Path | None, vectors: Iterator[tuple[str, M3Embedding]], dims: Mapping[str, int], total: int | None
) -> None:
    from trivec.vectors.files import save_vectors, write_json_lines

    done = 0

    def followed() -> Iterator[tuple[str, M3Embedding]]:
        nonlocal done
        for pair in vectors:
            yield pair
            done += 1

    try:
        if out is None:
            write_json_lines(sys.stdout, followed())
        else:
            save_vectors(out, followed(), dims)
            reporting.say(f"{reporting.amount(done, 'document')} encoded to {out}")
    except KeyboardInterrupt as interrupt:
        kept = "" if out is None else f"; nothing was written to {out}"
        reached = reporting.out_of(done, total, "document")
        raise type(interrupt)(f"{reached} finished{kept}; the same command begins anew") from None


def _check(out: Path, force: bool) -> None:
    """Make sure that the file can be written, and replaced if it exists: ask where there is somebody to ask."""
    from trivec.vectors.files import check_path

    check_path(out)
    if force or not out.exists():
        return
    if not (sys.stdin.isatty() and reporting.stderr.is_terminal):
        raise TrivecError(f"{out} exists: add --force to replace it, or name another file")
    if not reporting.confirmed(f"{out} exists. Replace it?"):
        raise typer.Exit(reporting.FAILED)
