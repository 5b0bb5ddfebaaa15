"""`trivec index`: files into a Milvus collection."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trivec.cli import options, reporting
from trivec.cli.sources import open_sources
from trivec.vectors.token_forms import TokenForm

if TYPE_CHECKING:
    from trivec.documents import Document
    from trivec.milvus import Indexed


# Documents that are named before they are deleted.
_GONE_SHOWN = 20

_TOKENS = "Token vectors"


@options.grouped
def index(
    paths: options.Paths,
    *,
    collection: options.Collection = options.DEFAULT_COLLECTION,
    milvus_options: options.MilvusOptions,
    new_collection_options: options.NewCollectionOptions,
    source_options: options.SourceOptions,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="A field to keep as metadata; repeatable. Default: all.", rich_help_panel="Records"),
    ] = None,
    chunk_tokens: Annotated[
        int | None,
        typer.Option(min=8, help="Longest chunk, in tokens. Default: 512, or what the model reads if that is less."),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(min=0, help="Tokens that neighbouring chunks share. Default: 64, or an eighth of a short chunk."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Skip chunks that are stored with the same text and metadata.",
        ),
    ] = False,
    sync: Annotated[
        bool,
        typer.Option("--sync", help="Ask, then delete documents that were stored from these paths and are gone."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --sync: do not ask.")] = False,
    token_vectors: Annotated[
        TokenForm | None,
        typer.Option(
            help="Keep token vectors in a new collection, for rerank and the modes multi and all.",
            show_default=False,
            rich_help_panel=_TOKENS,
        ),
    ] = None,
    pool: Annotated[
        int,
        typer.Option(
            min=1, max=4, help="With --token-vectors: how many become one, on average.", rich_help_panel=_TOKENS
        ),
    ] = 1,
    reencode: Annotated[
        bool,
        typer.Option("--reencode", help="If the collection was made with another model, encode all of it again."),
    ] = False,
    max_batch_tokens: options.MaxBatchTokens = None,
    model: options.OwnModel = None,
    model_options: options.ModelOptions,
) -> None:
    """Store files in a Milvus collection, cut into chunks, with their vectors.

    A text, Markdown or HTML file is one document, a line of .jsonl or a row of .csv, .tsv or .parquet is one. Indexing
    a document again replaces its chunks, so the same command run twice stores nothing twice; after an interruption add
    [bold]--resume[/]. Documents that are no longer there stay stored until [bold]--sync[/], which shows them and asks.
    A .csv or .tsv column whose values are all numbers is stored as numbers, for filters. All files are looked through
    before any work.

    A collection keeps to the model that it was made with: that is taken unless [bold]--model[/] names one, and another
    one is refused. So is another [bold]--token-vectors[/] or [bold]--pool[/]; leave these out to keep to what it does.

    [dim]Examples:[/]

    trivec index notes/ --collection notes

    trivec index faq.jsonl --text-field answer --id-field key --metadata lang

    trivec index notes/ --collection notes --token-vectors int8 --pool 2

    trivec index corpus.parquet --uri http://localhost:19530 --token root:Milvus --db books
    """
    from trivec.documents import MetadataError
    from trivec.milvus import M3Collection, MilvusError, index_documents
    from trivec.milvus.connection import is_lite
    from trivec.milvus.indexing import CHUNK_TOKENS, longest_chunk
    from trivec.milvus.schema import name_problem

    if name_problem(collection):  # then it must be there, which is seen to before files are read
        M3Collection(collection, **dataclasses.asdict(milvus_options)).close()

    _check_numbers(overlap, chunk_tokens or CHUNK_TOKENS, pool, token_vectors)
    _check_sync(sync, yes, source_options)
    making = new_collection_options.arguments()

    documents = open_sources(
        paths,
        source_options,
        metadata_fields=metadata,
        skipped_beside=Path(collection),
        base=Path(milvus_options.uri).parent if is_lite(milvus_options.uri) else None,
        check=_check_storable,
    )
    with (
        ExitStack() as stack,
        M3Collection(
            collection, **dataclasses.asdict(milvus_options), **making, token_vectors=token_vectors, pool=pool
        ) as opened,
    ):
        recorded = opened.recorded_model
        model = model or (recorded.name if recorded else options.DEFAULT_MODEL)
        loaded = stack.enter_context(model_options.load(model))
        opened.use_model(loaded, reencode=reencode)
        options.require_head(loaded.has_colbert or token_vectors is None, model, "colbert", "leave out --token-vectors")
        if not loaded.has_sparse:
            reporting.warn(
                f"{model} has no sparse head (sparse_linear.pt): only dense vectors are stored, "
                "and only `trivec search --mode dense` will find these documents"
            )
        if chunk_tokens is not None and chunk_tokens > (most := longest_chunk(loaded.max_length)):
            raise typer.BadParameter(f"--chunk-tokens {chunk_tokens} is more than {model} reads, at most {most}")
        began = time.monotonic()
        try:
            with closing(reporting.counted(documents, "Indexing", documents.total)) as counted:
                done = index_documents(
                    opened,
                    counted,
                    max_tokens=chunk_tokens,
                    overlap=overlap,
                    max_batch_tokens=max_batch_tokens,
                    skip_unchanged=resume,
                    # A record that is skipped is not gone.
                    read_from=paths if source_options.on_error == "stop" else (),
                    sync=sync,
                    confirm=None if yes else partial(_confirmed, collection, opened.place),
                    show_progress=False,
                )
        except MetadataError as error:
            raise MetadataError(f"{error}, or keep others with --metadata") from error
        except KeyboardInterrupt:
            with suppress(MilvusError):
                reporting.say(
                    f"collection {collection} of {opened.place} holds {reporting.amount(opened.count(), 'chunk')}; "
                    "what was stored stays, and the same command with --resume goes on from there"
                )
            raise
        _tell(done, sync)
        reporting.say(
            f"{reporting.amount(done.documents, 'document')}: {reporting.amount(done.written, 'chunk')} stored, "
            f"{done.unchanged} unchanged, {done.removed} removed in {time.monotonic() - began:.1f} s; "
            f"collection {collection} of {opened.place} now holds {opened.count()}"
        )


def _check_sync(sync: bool, yes: bool, source_options: options.SourceOptions) -> None:
    if sync and source_options.on_error == "skip":
        raise typer.BadParameter("--sync with --on-error skip would remove what only could not be read: use either")
    if sync and not yes and not sys.stdin.isatty():
        raise typer.BadParameter("there is nobody to ask whether to delete what is gone: give --yes with --sync")


def _tell(done: Indexed, sync: bool) -> None:
    """Warn of what was left out and of what is stored and no longer there."""
    if done.blank:
        reporting.warn(f"{reporting.amount(done.blank, 'document')} left out: empty or blank")
    if done.kept:
        remedy = "" if sync else ": --sync removes them"
        reporting.warn(
            f"{reporting.amount(done.kept, 'document')} stored from these paths before, no longer there and still "
            f"findable{remedy}"
        )


def _confirmed(collection: str, place: str, gone: Mapping[str, Sequence[str]]) -> bool:
    """Show what is about to be deleted, and ask."""
    for document, chunks in islice(gone.items(), _GONE_SHOWN):
        reporting.say(f"no longer there: {document} ({reporting.amount(len(chunks), 'chunk')})")
    if len(gone) > _GONE_SHOWN:
        reporting.say(f"and {reporting.amount(len(gone) - _GONE_SHOWN, 'document')} more")
    chunks_of_all = reporting.amount(sum(map(len, gone.values())), "chunk")
    return reporting.confirmed(
        f"Delete {reporting.amount(len(gone), 'document')} ({chunks_of_all}) from collection {collection} of {place}?"
    )


def _check_numbers(overlap: int | None, chunk_tokens: int, pool: int, token_vectors: TokenForm | None) -> None:
    if overlap is not None and overlap * 2 >= chunk_tokens:
        raise typer.BadParameter(f"--overlap {overlap} is not below half of --chunk-tokens {chunk_tokens}")
    if pool > 1 and token_vectors is None:
        raise typer.BadParameter("--pool pools token vectors that are kept: give --token-vectors fp16 or int8 too")


def _check_storable(document: Document) -> None:
    """Refuse a document that a collection cannot hold, whatever its text: by its chunks' ids and metadata."""
    from trivec.bulk.limits import Limits, check
    from trivec.documents.chunking import chunk_documents

    tokenizer: Any = None  # a text that is empty is one chunk, of no tokens
    for chunk in chunk_documents([dataclasses.replace(document, text="")], tokenizer):
        check(chunk, Limits())
