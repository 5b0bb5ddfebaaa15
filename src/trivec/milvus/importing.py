"""Folders of encoded files into collections: into Milvus Lite at once, into a server by way of its import API.

Nothing is encoded. What of a folder was imported is noted, so that a run that was interrupted, killed or refused goes
on where it stopped: Milvus Lite gets the files it lacks, a server's jobs are followed or, where it knows nothing of
them, looked for by their rows before their files are given to it again. A server's import adds rows without replacing
those of the same ids: files whose rows are there already are refused.
"""

from __future__ import annotations

import json
import secrets
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trivec.bulk import layout
from trivec.errors import CollectionMismatchError, TrivecError
from trivec.milvus import lite_loading, values
from trivec.milvus.bulk_folder import BulkFolder, Note
from trivec.milvus.connection import DEFAULT_TIMEOUT, is_lite
from trivec.milvus.import_jobs import ImportApi
from trivec.milvus.model_record import ModelRecord
from trivec.milvus.server_import import ServerImport
from trivec.milvus.settings import Consistency, DenseIndex, Settings
from trivec.milvus.table import Table, batches
from trivec.milvus.table_tokens import TokensAsked
from trivec.milvus.token_field import TokenField
from trivec.support.caller import level_of_the_caller
from trivec.support.progress import progress_bar
from trivec.vectors.pooling import pooled
from trivec.vectors.token_forms import TokenForm

# The token id that stands in rows without lexical weights: `<s>`, at which no query of BGE-M3's layout has weight.
PLACEHOLDER = 0

# The property by which a collection is known to a folder.
_TOKEN = "trivec.import"  # noqa: S105

# Rows that are sent at once to a Milvus Lite whose files cannot be written directly.
_ROWS_PER_WRITE = 128


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        files: Files imported by this call.
        rows: Their rows, blank texts included, which are left out.
        found: Files that had been imported before.
        missing: Files that the folder will have when all of it is encoded.
        count: Rows that the collection now holds.
    """

    files: int
    rows: int
    found: int
    missing: int
    count: int


def import_folder(
    folder: str | Path,
    collection: str,
    uri: str | Path = "milvus.db",
    *,
    token: str = "",
    db_name: str = "",
    timeout: float | None = DEFAULT_TIMEOUT,
    bucket: str | None = None,
    model: ModelRecord | None = None,
    partition_key: str | None = None,
    consistency: Consistency | None = None,
    dense_index: DenseIndex | None = None,
    token_vectors: TokenForm | None = None,
    pool: int = 1,
    show_progress: bool = True,
) -> Imported:
    """Store what a folder of encoded files holds in a collection, which is made if there is none.

    Call it again after an interruption, or when more of the folder is encoded: what is imported is skipped.

    Example:
        >>> import_folder("vectors/", "wiki", "milvus.db")                            # doctest: +SKIP
        >>> import_folder("vectors/", "wiki", "http://localhost:19530", bucket="s3://a-bucket/wiki")  # doctest: +SKIP

    Args:
        folder: A folder (or URI of one) that `trivec encode --out FOLDER/` made, in either layout, or another one of
            Parquet files in Milvus' layout.
        collection: The collection's name.
        uri: A Milvus Lite file, whose name ends in .db, or "http(s)://host:port" of a Milvus server.
        token: An API key or "user:password", for servers that ask for one.
        db_name: The server's database; empty means the default one.
        timeout: Seconds that a server is given to answer a request, attempts after a loss included; None: for ever.
        bucket: The server's storage as it is reached from here, a URI or a folder: files are copied there, in Milvus'
            layout, and given to the server by their path in the bucket. None: the server reads `folder` itself.
        model: The model that made the vectors, where the folder does not say.
        partition_key: As for `M3Collection`.
        consistency: As for `M3Collection`.
        dense_index: As for `M3Collection`.
        token_vectors: As for `M3Collection`; the folder must have token vectors, in whichever form.
        pool: As for `M3Collection`.
        show_progress: Show a progress bar when it takes long.

    Returns:
        The counts.

    Raises:
        TrivecError: The folder is none, damaged, of an unknown model or cannot be noted in; or a row cannot be stored.
        CollectionMismatchError: The collection cannot hold these vectors, or holds another model's.
        MilvusError: Milvus cannot be reached or refused; or an import job failed, with the server's reason.
        OSError: A file cannot be read, or the bucket not be written to.
    """
    found = BulkFolder(str(folder))
    record = found.record or model
    if record is None:
        raise TrivecError(
            f"{found.place} does not say which model its vectors are of: name it, with model= (trivec import --model)"
        )
    if found.record is not None and model is not None and model.fingerprint != found.record.fingerprint:
        raise CollectionMismatchError(
            f"the vectors in {found.place} are those of the model {found.record}, not of {model}"
        )
    tokens = TokensAsked.checked(token_vectors, pool)
    if tokens.form is not None and not found.has_token_vectors:
        raise TrivecError(f"{found.place} has no token vectors to keep: encode with --token-vectors, or leave them out")
    settings = Settings.of(partition_key, consistency, dense_index)
    seconds = values.seconds("timeout", timeout)
    api = None if is_lite(str(uri)) else ImportApi(str(uri), token, db_name, seconds)
    table = Table(collection, str(uri), token, db_name, seconds, found.dense_dim, settings)
    try:
        known_as = _meet(table, record, found, tokens)
        with found.claimed(known_as):
            note = found.noted(known_as)
            if api is None:
                files, rows, before = _into_lite(table, found, note, known_as, str(uri), show_progress)
            else:
                files, rows, before = ServerImport(table, api, found, note, known_as, bucket).run(show_progress)
        return Imported(files, rows, before, found.missing, table.count())
    finally:
        table.close()


def _meet(table: Table, record: ModelRecord, folder: BulkFolder, tokens: TokensAsked) -> str:
    """Make the collection unless it is there, see that its vectors are the model's, and return its token."""
    new = secrets.token_hex(8)
    if table.description is None:
        form, factor = tokens.form, tokens.pool
        field = None if form is None else partial(TokenField.wanted, form, factor, folder.token_dim())
        table.create(folder.dense_dim, {**record.properties(), _TOKEN: new}, field)
    assert table.description is not None
    tokens.check(table)
    there = ModelRecord.read(table.description.properties)
    if there is not None and (why_not := there.why_not(record)):
        raise CollectionMismatchError(f"collection {table.name!r} in {table.place}: {why_not}")
    if there is None:
        if table.count():
            warnings.warn(
                f"collection {table.name!r} in {table.place} does not say which model its vectors are of: {record} is "
                "taken unchecked",
                UserWarning,
                stacklevel=level_of_the_caller(),
            )
        else:
            table.set_properties(record.properties())
    token = table.description.properties.get(_TOKEN)
    if not token:
        table.set_properties({_TOKEN: new})
        token = new
    return str(token)


def _into_lite(
    table: Table, folder: BulkFolder, note: Note, token: str, uri: str, show_progress: bool
) -> tuple[int, int, int]:
    """Load the files that are not noted; a row takes the place of the one with its id, metadata and all."""
    assert table.description is not None
    key = table.description.partition_key
    field = table.tokens if folder.has_token_vectors else None
    direct = lite_loading.loader(str(Path(uri).absolute()), table.name, key, PLACEHOLDER, table.tokens)
    files = rows = 0
    with progress_bar(folder.rows, "Importing", "rows", show_progress) as progress:
        for file in folder.files:
            if note.done.get(file.name) == file.mark:
                progress.update(file.rows)
                continue
            folder.verify(file)
            for part in folder.tables(file):
                if direct is not None:
                    direct.load(part)
                else:
                    for group in batches(_as_rows(part, field), _ROWS_PER_WRITE):
                        table.upsert(group)
                progress.update(part.num_rows)
            if direct is not None:
                direct.finish()
            else:
                table.flush()
            note.done[file.name] = file.mark
            folder.note(token, note)
            files, rows = files + 1, rows + file.rows
    if files:
        table.flush()
    return files, rows, len(folder.files) - files


def _as_rows(part: Any, field: TokenField | None) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    columns = [name for name in part.schema.names if name not in (layout.TOKENS, "token_scales")]
    for row in part.select(columns).to_pylist():
        pairs = dict(zip(row["sparse"]["indices"], row["sparse"]["values"], strict=True))
        made.append(
            {
                **json.loads(row["metadata"] or "{}"),
                "id": row["id"],
                "text": row["text"],
                "dense": row["dense"],
                "sparse": pairs or {PLACEHOLDER: 1.0},
            }
        )
    if field is not None:
        for row, vectors in zip(made, layout.token_matrices(part), strict=True):
            row[layout.TOKENS] = field.value(row["text"], pooled(vectors, field.pool))
    return made
