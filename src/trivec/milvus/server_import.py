"""A folder's files through a server's import jobs: given to it a few jobs at a time, followed, noted, gone on with.

Before a job is asked for, its files are noted, and afterwards its number: whenever a run ends, what is noted says which
jobs there may be. A job whose number is not known is looked for among the server's; what the server has forgotten, by
the rows it would have made.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType

from trivec.bulk import layout
from trivec.errors import MilvusError, TrivecError
from trivec.milvus.bulk_folder import BulkFile, BulkFolder, Note
from trivec.milvus.import_jobs import FullError, ImportApi, Job, LostJobError
from trivec.milvus.table import Table, batches
from trivec.milvus.token_field import TokenField
from trivec.shards.places import Folder, is_uri
from trivec.support.extras import require
from trivec.support.progress import ProgressBar, progress_bar
from trivec.vectors.embeddings import FloatArray
from trivec.vectors.pooling import pooled

# Files of one job, which succeeds or fails as a whole, and jobs at once.
_FILES_PER_JOB = 32
_JOBS_AT_ONCE = 4
# Seconds between two looks at the jobs; they double while nothing moves.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# How often a job is looked for, and asked for, whose making was not answered.
_ATTEMPTS = 3
_UNKNOWN = "?"
# In what numbers a server takes token vectors where it is not float32.
_NUMBERS: dict[Any, Any] = {DataType.FLOAT16_VECTOR: np.float16, DataType.INT8_VECTOR: np.int8}


class ServerImport:
    """One run of an import into a server's collection.

    Args:
        table: The collection, which exists.
        api: The server's import API.
        folder: What is imported.
        note: What of it was given to jobs and imported before; kept up to date, also in the folder.
        token: The collection's token.
        bucket: Where the server's storage is, as it is reached from here; None: it reads the folder itself.
    """

    def __init__(
        self, table: Table, api: ImportApi, folder: BulkFolder, note: Note, token: str, bucket: str | None
    ) -> None:
        self._table = table
        self._api = api
        self._folder = folder
        self._note = note
        self._token = token
        self._place = folder.folder.place if bucket is None else f"{bucket.rstrip('/')}/{token}"
        self._bucket = None if bucket is None else Folder(self._place)
        self._files = {file.name: file for file in folder.files}
        self._failures: list[str] = []

    def run(self, show_progress: bool) -> tuple[int, int, int]:
        """Import what is not imported; return the number of files, of their rows, and of the files found imported.

        Raises:
            MilvusError: A file's rows are there already, the server refused, or a job failed: its files are named.
            TrivecError: Files cannot be read by the server as they are, or ids occur more than once.
        """
        self._refuse_changed()
        before = set(self._note.done)
        waiting = self._left()
        self._refuse_unreadable(waiting)
        if waiting and (repeated := self._folder.repeated_ids()):
            raise TrivecError(
                f"{self._folder.place} holds the id {repeated[0]!r} more than once: a server's import would store "
                "both. Give every document an id of its own"
            )
        with progress_bar(self._folder.rows, "Importing", "rows", show_progress) as progress:
            self._show(progress, {})
            self._follow(waiting, progress)
        if self._failures:
            raise MilvusError(
                "; ".join(self._failures) + ". What was imported stays; the same command goes on from there"
            )
        new = [self._files[name] for name in self._note.done if name in self._files and name not in before]
        return len(new), sum(file.rows for file in new), len(before)

    def _follow(self, waiting: list[BulkFile], progress: ProgressBar) -> None:
        """Give the server jobs and wait for them, those of an earlier run too, until all have ended."""
        groups = list(batches(waiting, _FILES_PER_JOB))
        pause, shown = _FIRST_PAUSE, -1
        while groups or self._note.jobs:
            while groups and not self._failures and len(self._note.jobs) < _JOBS_AT_ONCE:
                try:
                    self._give(groups[0])
                except FullError:
                    break
                del groups[0]
            if self._failures and not self._note.jobs:
                return
            jobs = [self._looked_at(job) for job in list(self._note.jobs)]
            running = {job.id: job for job in jobs if job is not None}
            now = self._show(progress, running)
            pause = _FIRST_PAUSE if now != shown else min(pause * 2, _LONGEST_PAUSE)
            shown = now
            if groups or self._note.jobs:
                time.sleep(pause)

    def _left(self) -> list[BulkFile]:
        """Return the files that no job has and that are not imported; jobs of unknown number are settled first."""
        for job in [job for job in self._note.jobs if job.startswith(_UNKNOWN)]:
            names = self._note.jobs.pop(job)
            if found := self._found(names):
                self._note.jobs[found] = names
            elif self._are_there(names):
                self._note.done |= {name: self._files[name].mark for name in names if name in self._files}
            self._save()
        self._note.done |= {file.name: file.mark for file in self._folder.files if not file.rows}
        given = {name for names in self._note.jobs.values() for name in names} | self._note.done.keys()
        return [file for file in self._folder.files if file.name not in given]

    def _give(self, files: Sequence[BulkFile]) -> None:
        """Make a job of files and note it."""
        for file in files:
            if self._are_there([file.name]):
                raise MilvusError(
                    f"collection {self._table.name!r} in {self._table.place} holds rows of {file.name} already, and a "
                    "server's import would store them twice: import into a new collection, or delete them first"
                )
        paths = [self._ready(file) for file in files]
        key = _UNKNOWN + secrets.token_hex(4)
        self._note.jobs[key] = names = [file.name for file in files]
        self._save()
        job = ""
        for _ in range(_ATTEMPTS):
            try:
                job = self._api.create(self._table.name, paths)
            except LostJobError:
                job = self._found(names) or ""
            except MilvusError:
                del self._note.jobs[key]
                self._save()
                raise
            if job:
                break
        if not job:
            raise MilvusError(f"{self._api.place}: connections are lost while import jobs are made: run the same again")
        del self._note.jobs[key]
        self._note.jobs[job] = names
        self._save()

    def _looked_at(self, job: str) -> Job | None:
        """Return a job that has not ended; note what became of one that has."""
        names = self._note.jobs[job]
        try:
            state = self._api.describe(job)
        except LostJobError:  # ended so long ago that the server has forgotten it
            state = Job(job, "Completed" if self._are_there(names) else "Failed", reason="the server has forgotten it")
        if not (state.completed or state.failed):
            return state
        del self._note.jobs[job]
        if state.completed:
            self._note.done |= {name: self._files[name].mark for name in names if name in self._files}
        else:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            self._failures.append(f"import job {job} of {shown} failed: {state.reason or 'the server gives no reason'}")
        self._save()
        return None

    def _found(self, names: Sequence[str]) -> str | None:
        """Return the number of a job of these files that has not failed; None where the server knows none."""
        path = self._path(names[0])
        for listed in self._api.jobs(self._table.name):
            if listed.failed or listed.id in self._note.jobs:
                continue
            with suppress(LostJobError):  # forgotten meanwhile
                if any(path in said for said in self._api.describe(listed.id).files):
                    return listed.id
        return None

    def _are_there(self, names: Sequence[str]) -> bool:
        """Return whether the collection holds rows of these files, which came there together."""
        for name in names:
            if name in self._files and (ids := self._folder.some_ids(self._files[name])):
                return bool(self._table.fetch(ids, ["id"]))
        return False

    def _ready(self, file: BulkFile) -> str:
        """Return the path by which the server reads a file, after copying it into the bucket if there is one."""
        if self._bucket is None:
            return self._path(file.name)
        self._folder.verify(file)
        with self._bucket.writing(file.name) as target:
            if self._readable(file):
                with self._folder.folder.opened(file.name) as source:
                    shutil.copyfileobj(source, target)
            else:
                self._convert(file, target)
        return self._path(file.name)

    def _convert(self, file: BulkFile, target: Any) -> None:
        pa, pq = require("pyarrow"), require("pyarrow.parquet")
        assert self._table.description is not None
        key = self._table.description.partition_key
        field = self._table.tokens
        numbers = np.float32 if field is None else _NUMBERS.get(field.element, np.float32)
        kept = None if field is None else partial(_kept, field, numbers)
        schema = layout.milvus_schema(token_vectors=field is not None, partition_key=key, numbers=numbers)
        dropped = (layout.TOKENS, "token_scales") if field is None else ()
        compression = {name: "zstd" if name in layout.COMPRESSED else "none" for name in schema.names}
        with pq.ParquetWriter(pa.PythonFile(target, "w"), schema, use_dictionary=False, compression=compression) as to:
            for part in self._folder.tables(file):
                chosen = part.select([name for name in part.schema.names if name not in dropped])
                to.write_table(layout.to_milvus(chosen, partition_key=key, tokens=kept, numbers=numbers))

    def _readable(self, file: BulkFile) -> bool:
        """Return whether the server can read a file as it is."""
        assert self._table.description is not None
        key = self._table.description.partition_key
        columns = {"id", "text", "dense", "sparse", layout.META} | ({key.name} if key else set())
        if (field := self._table.tokens) is not None:
            columns.add(layout.TOKENS)
        as_written = field is None or (field.pool == 1 and field.element not in _NUMBERS)
        return file.milvus and as_written and set(file.columns) == columns

    def _refuse_unreadable(self, files: Sequence[BulkFile]) -> None:
        if self._table.tokens is not None and not self._folder.has_token_vectors:
            raise TrivecError(
                f"collection {self._table.name!r} keeps token vectors, and {self._folder.place} has none: encode with "
                "--token-vectors"
            )
        if self._bucket is not None:
            return
        if other := next((file for file in files if not self._readable(file)), None):
            raise TrivecError(
                f"{self._folder.place}: a Milvus server cannot read the columns of {other.name} into this collection: "
                "name the bucket that it reads from, with bucket= (trivec import --bucket), and files are converted on "
                "the way there; or encode with --for-milvus"
            )

    def _refuse_changed(self) -> None:
        for file in self._folder.files:
            if self._note.done.get(file.name, file.mark) != file.mark:
                raise MilvusError(
                    f"{self._folder.place}: {file.name} was imported before and has changed since ({file.mark}, then "
                    f"{self._note.done[file.name]}): import into a new collection"
                )

    def _path(self, name: str) -> str:
        """Return what the server knows a file of the place that it reads as: its path in the bucket, or on the disk."""
        if not is_uri(self._place):
            return os.path.abspath(Path(self._place) / name)  # noqa: PTH100  # links as they are
        filesystem, path = require("pyarrow.fs").FileSystem.from_uri(self._place)
        if filesystem.type_name == "local":
            return f"{path.rstrip('/')}/{name}"
        return f"{path.partition('/')[2].rstrip('/')}/{name}".lstrip("/")

    def _show(self, progress: ProgressBar, running: dict[str, Job]) -> int:
        """Bring the bar to what is imported, and return it: rows."""
        rows = sum(file.rows for file in self._files.values() if file.name in self._note.done)
        for job, names in self._note.jobs.items():
            share = running[job].progress / 100 if job in running else 0
            rows += int(share * sum(self._files[name].rows for name in names if name in self._files))
        progress.update(max(0, rows - progress.n))
        return rows

    def _save(self) -> None:
        self._folder.note(self._token, self._note)


def _kept(field: TokenField, numbers: Any, text: str, vectors: FloatArray) -> Any:
    """Return what a collection keeps of a text's token vectors: (u, dim) of `numbers`."""
    found = [each[layout.TOKEN_VECTOR] for each in field.value(text, pooled(vectors, field.pool))]
    return np.asarray(found, numbers).reshape(-1, field.dim)
