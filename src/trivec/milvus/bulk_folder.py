"""A folder of encoded Parquet files that is imported: its files, the model they are of, and what of it was imported.

What was imported is noted in the folder itself, in a file for each collection, which is known by a token among its
properties: a collection that was dropped and made again has another one, and gets all files again. Knows the folders
that `trivec encode` makes, and takes any other with files in one of the two layouts (`trivec.bulk.layout`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trivec.bulk import layout
from trivec.bulk.limits import is_blank
from trivec.documents import DocumentError
from trivec.errors import CollectionMismatchError, TrivecError
from trivec.milvus.connection import without_credentials
from trivec.milvus.model_record import ModelRecord
from trivec.shards.columns import unpacked
from trivec.shards.manifest import made_otherwise, read_manifest
from trivec.shards.places import Folder
from trivec.shards.shard_file import DamagedFileError, made_by, verify
from trivec.support.extras import require

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

# Rows that are read, and held as Python's values, at once.
_ROWS_AT_ONCE = 8192
_ROWS_WITH_TOKENS = 256
# Ids by which it is seen whether a collection holds a file's rows.
_IDS_TO_LOOK_FOR = 20
_NOTE = ".imported-"


@dataclass(frozen=True)
class BulkFile:
    """A file of the folder.

    Attributes:
        name: Its name.
        rows: How many rows it has.
        mark: What tells it from one that was written in its place later: its size and rows.
        milvus: Whether it is in Milvus' layout.
        columns: Its columns.
    """

    name: str
    rows: int
    mark: str
    milvus: bool
    columns: tuple[str, ...]


@dataclass
class Note:
    """What of a folder was put into a collection.

    Attributes:
        done: The marks of files whose rows are in it, by name.
        jobs: Files, by name, that were given to a server's job: its number, "" where it is not known whether it was
            made.
    """

    done: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, list[str]] = field(default_factory=dict)


class BulkFolder:
    """A folder that was found to be one.

    Args:
        place: A path or URI.

    Attributes:
        place: The same without credentials, for messages.
        files: Its files, by name.
        missing: How many more files it will have when all of it is encoded.
        record: The model that its vectors are of; None where nothing says so.
        dense_dim: The size of dense vectors.

    Raises:
        TrivecError: It does not exist, holds no such files, or files with other columns or of other models.
        OSError: It cannot be read.
    """

    def __init__(self, place: str) -> None:
        self.place = without_credentials(place)
        self.folder = Folder(place)
        found = read_manifest(self.folder)
        names = self.folder.names()
        if found is None:
            self.record, self.missing = None, 0
            wanted = sorted(name for name in names if name.endswith(".parquet") and not name.startswith((".", "_")))
        else:
            manifest, plan = found
            model = manifest.model
            self.record = ModelRecord(_name(model.name), model.fingerprint, model.precision)
            wanted = [shard.name for shard in plan.shards if shard.name in names]
            self.missing = len(plan.shards) - len(wanted)
        if not wanted:
            raise TrivecError(f"{self.place} holds no encoded files: make them with `trivec encode ... --out FOLDER/`")
        self.dense_dim = 0
        self.files = tuple(self._looked_at(name, None if found is None else found[0]) for name in wanted)

    @property
    def rows(self) -> int:
        """How many rows all files have together."""
        return sum(file.rows for file in self.files)

    @property
    def has_token_vectors(self) -> bool:
        """Whether all files have token vectors."""
        return all(layout.TOKENS in file.columns for file in self.files)

    def token_dim(self) -> int:
        """Return the size of token vectors, of files that have some; 0 where no row has one.

        Raises:
            TrivecError: A file is damaged.
        """
        pa, pq = require("pyarrow"), require("pyarrow.parquet")
        for file in self.files:
            with self._reading(file.name) as stream:
                for batch in pq.ParquetFile(stream).iter_batches(1):
                    table = pa.Table.from_batches([batch])
                    matrices = layout.token_matrices(layout.from_milvus(table) if file.milvus else unpacked(table))
                    if matrices and len(matrices[0]):
                        return int(matrices[0].shape[1])
        return 0

    def tables(self, file: BulkFile) -> Iterator[Any]:
        """Yield a file's rows as `pyarrow` tables in trivec's layout, some thousand at once, each of them checked.

        Raises:
            DocumentError: A row cannot be stored; the file is named.
            TrivecError: The file is damaged.
        """
        pa, pq = require("pyarrow"), require("pyarrow.parquet")
        try:
            with self._reading(file.name) as stream:
                size = _ROWS_WITH_TOKENS if layout.TOKENS in file.columns else _ROWS_AT_ONCE
                for batch in pq.ParquetFile(stream).iter_batches(size):
                    table = pa.Table.from_batches([batch])
                    yield layout.checked(layout.from_milvus(table) if file.milvus else unpacked(table))
        except DocumentError as error:
            raise type(error)(f"{file.name}: {error}") from error

    def some_ids(self, file: BulkFile) -> list[str]:
        """Return the ids of a file's first rows that are imported; none if there are no such rows.

        Raises:
            TrivecError: The file is damaged.
        """
        for ids, texts in self._columns(file, ["id", "text"]):
            found = [each for each, text in zip(ids, texts, strict=True) if text is not None and not is_blank(text)]
            if found:
                return found[:_IDS_TO_LOOK_FOR]
        return []

    def repeated_ids(self) -> list[str]:
        """Return ids that more than one row has, in however many files, some of them if they are many.

        Holds 8 bytes a row.

        Raises:
            TrivecError: A file is damaged.
        """
        digests = np.empty(self.rows, dtype=np.uint64)
        end = 0
        for file in self.files:
            for (ids,) in self._columns(file, ["id"]):
                digests[end : end + len(ids)] = [_digest(each) for each in ids]
                end += len(ids)
        digests.sort()
        suspects = set(digests[1:][digests[1:] == digests[:-1]].tolist())
        seen: set[str] = set()
        repeated: list[str] = []
        for file in self.files if suspects else ():
            for (ids,) in self._columns(file, ["id"]):
                for each in ids:
                    if _digest(each) in suspects:
                        if each in seen:
                            repeated.append(each)
                        seen.add(each)
                if len(repeated) > _IDS_TO_LOOK_FOR:
                    return repeated
        return repeated

    def _columns(self, file: BulkFile, names: list[str]) -> Iterator[list[list[Any]]]:
        pq = require("pyarrow.parquet")
        with self._reading(file.name) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(_ROWS_AT_ONCE, columns=names):
                yield [batch.column(name).to_pylist() for name in names]

    def verify(self, file: BulkFile) -> None:
        """Hold a file that `trivec encode` wrote against its own checksum; others have none.

        Raises:
            TrivecError: It is damaged.
        """
        if self.record is not None:
            with self._reading(file.name) as stream:
                verify(stream)

    @contextmanager
    def _reading(self, name: str) -> Iterator[Any]:
        """Open a file; what reading it shows to be damaged is raised as such."""
        pa = require("pyarrow")
        try:
            with self.folder.opened(name) as stream:
                yield stream
        except (pa.ArrowException, DamagedFileError, OSError, MemoryError, OverflowError, UnicodeDecodeError) as error:
            if getattr(error, "errno", None) is not None:  # the system's, not pyarrow's
                raise
            raise TrivecError(f"{self.place}: {name} is damaged ({' '.join(str(error).split())})") from error

    @contextmanager
    def claimed(self, token: str) -> Iterator[None]:
        """Have the import into the collection with this token to oneself, where the folder's file system has locks.

        Raises:
            TrivecError: Another process imports the folder into it, or the folder cannot be written to.
        """
        if self.folder.local is None or fcntl is None:
            yield
            return
        try:
            lock = os.open(self.folder.local / f"{_NOTE}{token}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._read_only(error) from error
        try:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:  # but for these two, the file system has no locks
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise TrivecError(
                        f"{self.place} is being imported into this collection by another process"
                    ) from error
            yield
        finally:
            os.close(lock)

    def noted(self, token: str) -> Note:
        """Return what is noted for the collection with this token.

        Raises:
            OSError: It cannot be read.
            TrivecError: It is damaged.
        """
        data = self.folder.read(_note_name(token))
        if data is None:
            return Note()
        try:
            return Note(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise TrivecError(f"{self.place}: {_note_name(token)} is damaged ({error}): delete it") from error

    def note(self, token: str, note: Note) -> None:
        """Note it, whole or not at all.

        Raises:
            TrivecError: The folder cannot be written to.
        """
        try:
            with self.folder.writing(_note_name(token)) as stream:
                stream.write(json.dumps(asdict(note)).encode())
        except OSError as error:
            raise self._read_only(error) from error

    def _read_only(self, error: OSError) -> TrivecError:
        reason = error.strerror or error
        return TrivecError(f"{self.place} cannot be written to ({reason}): what was imported is noted there")

    def _looked_at(self, name: str, manifest: Any) -> BulkFile:
        pq = require("pyarrow.parquet")
        with self._reading(name) as stream:
            if manifest is not None and (other := made_otherwise(made_by(stream), manifest)):
                raise CollectionMismatchError(f"{self.place}: {name} is of another model: {'; '.join(other)}")
            size = stream.seek(0, 2)
            stream.seek(0)
            parquet = pq.ParquetFile(stream)
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
            if missing := layout.missing_columns(schema):
                raise TrivecError(
                    f"{self.place}: {name} has no column {missing[0]!r}: encode again with dense and sparse vectors"
                )
            milvus = layout.is_milvus_layout(schema)
            if rows:
                self._compare_sizes(name, parquet, milvus)
        return BulkFile(name, rows, f"{size} bytes, {rows} rows", milvus, tuple(schema.names))

    def _compare_sizes(self, name: str, parquet: Any, milvus: bool) -> None:
        if not milvus:
            dim = parquet.schema_arrow.field("dense").type.list_size
        else:
            first = next(parquet.iter_batches(1, columns=["dense"]))
            dim = len(first.column(0)[0])
        if self.dense_dim not in (0, dim):
            raise TrivecError(f"{self.place}: dense vectors of {name} have {dim} dimensions, others {self.dense_dim}")
        self.dense_dim = dim


def _digest(identifier: object) -> int:
    return int.from_bytes(
        hashlib.blake2b(str(identifier).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


def _note_name(token: str) -> str:
    return f"{_NOTE}{token}.json"


def _name(model: str) -> str:
    """Return a model's name as collections record it: that of a folder with its whole path."""
    folder = Path(model)
    return str(folder.resolve()) if folder.is_dir() else model
