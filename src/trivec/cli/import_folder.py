"""`trivec import`: a folder of encoded files into a Milvus collection."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated

import typer

from trivec.cli import options, reporting
from trivec.vectors.token_forms import TokenForm

if TYPE_CHECKING:
    from trivec.milvus import ModelRecord


@options.grouped
def import_folder(
    folder: Annotated[
        str,
        typer.Argument(
            help="A folder that `trivec encode --out FOLDER/` made, or one of Parquet files for Milvus; also s3://...",
            show_default=False,
        ),
    ],
    *,
    collection: options.Collection = options.DEFAULT_COLLECTION,
    milvus_options: options.MilvusOptions,
    bucket: Annotated[
        str | None,
        typer.Option(
            help="Where a server's storage is: s3://bucket/path, or a folder. Files are copied there first. "
            "Default: the server reads the folder itself.",
            show_default=False,
            rich_help_panel="Milvus",
        ),
    ] = None,
    new_collection_options: options.NewCollectionOptions,
    token_vectors: Annotated[
        TokenForm | None,
        typer.Option(
            help="Keep the folder's token vectors in a new collection, for rerank and the modes multi and all.",
            show_default=False,
            rich_help_panel="New collection",
        ),
    ] = None,
    pool: Annotated[
        int,
        typer.Option(
            min=1,
            max=4,
            help="With --token-vectors: how many become one, on average.",
            rich_help_panel="New collection",
        ),
    ] = 1,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model that made the vectors, if the folder does not name it.",
            show_default=False,
            rich_help_panel="Model",
        ),
    ] = None,
    model_options: options.ModelOptions,
) -> None:
    """Store encoded files in a Milvus collection, without encoding anything.

    Into Milvus Lite they go directly. A server reads them by itself, in jobs of its bulk import, which are followed
    here: it takes files that [bold]trivec encode --for-milvus[/] made where it can read them, and any others by way of
    [bold]--bucket[/]. What is imported is noted in the folder, so the same command goes on after an interruption, and
    imports what has been encoded since.

    A server adds rows and does not replace those with the same ids: files whose rows are there are refused.

    [dim]Examples:[/]

    trivec import vectors/ --collection wiki

    trivec import vectors/ --uri http://localhost:19530 --bucket s3://a-bucket/wiki --collection wiki

    trivec import s3://a-bucket/vectors --uri http://localhost:19530 --partition-key lang --dense-index diskann
    """
    from trivec.milvus import import_folder as run

    if pool > 1 and token_vectors is None:
        raise typer.BadParameter("--pool pools token vectors that are kept: give --token-vectors fp16 or int8 too")
    making = new_collection_options.arguments()
    began = time.monotonic()
    try:
        done = run(
            folder,
            collection,
            **dataclasses.asdict(milvus_options),
            **making,
            bucket=bucket,
            token_vectors=token_vectors,
            pool=pool,
            model=None if model is None else _record(model, model_options),
            show_progress=reporting.stderr.is_terminal,
        )
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)("what was imported stays, and the same command goes on from there") from None
    if done.missing:
        reporting.warn(
            f"{reporting.amount(done.missing, 'file')} of {folder} not encoded yet: import again when they are"
        )
    before = f", {done.found} before" if done.found else ""
    reporting.say(
        f"{reporting.amount(done.files, 'file')} imported ({reporting.amount(done.rows, 'row')}){before} in "
        f"{time.monotonic() - began:.1f} s; collection {collection} now holds {done.count}"
    )


def _record(model: str, model_options: options.ModelOptions) -> ModelRecord:
    from trivec.milvus import ModelRecord

    with model_options.load(model) as loaded:
        return ModelRecord.of(loaded)
