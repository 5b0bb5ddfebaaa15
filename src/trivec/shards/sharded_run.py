"""Encoding into a folder: what is there is skipped, what is missing is claimed, encoded and put in its place whole."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trivec.bulk.layout import Layout
from trivec.documents import BadRecord, DocumentError
from trivec.documents.bad_records import all_in_one
from trivec.documents.finding import SKIPPED
from trivec.shards.claims import Claims
from trivec.shards.columns import input_schema, packed, packed_schema
from trivec.shards.encoder import Encoder, ModelIdentity
from trivec.shards.manifest import (
    MANIFEST,
    PLAN,
    Manifest,
    ManifestError,
    differences,
    new_manifest,
    read_manifest,
    write_manifest,
)
from trivec.shards.passages import Reading, documents_of, tables_of
from trivec.shards.places import Folder
from trivec.shards.plan import Plan, Shard, differing_input, find_inputs, make_plan
from trivec.shards.shard_file import ShardWriter

SHARD_RECORDS = 10_000
# Bad records of a shard that are collected before it is given up.
_FAULTS_ENOUGH = 1000


@dataclass(frozen=True)
class Outcome:
    """What became of a shard.

    Attributes:
        shard: Its name.
        documents: How many were encoded.
        truncated: How many of them were cut.
        skipped: How many bad records were left out.
        fault: Why there is no file; None if there is.
        found: Whether the file was there already.
    """

    shard: str
    documents: int = 0
    truncated: int = 0
    skipped: int = 0
    fault: str | None = None
    found: bool = False


def skipped_listing(shard: Shard) -> str:
    """The name of the file that lists the bad records of a shard which were left out."""
    return f"_{shard.name.removesuffix('.parquet')}{SKIPPED}"


class Job:
    """A folder that was begun, with all that it takes to encode any of its shards.

    Attributes:
        folder: Where the files go.
        plan: All shards.
        manifest: What the folder was begun with.
        encoder: Computes the vectors.
        skip: Whether bad records are left out and listed.
    """

    def __init__(self, folder: Folder, encoder: Encoder, manifest: Manifest, plan: Plan, skip: bool) -> None:
        self.folder = folder
        self.plan = plan
        self.manifest = manifest
        self.encoder = encoder
        self.skip = skip

    def encode(self, shard: Shard, progress: Callable[[int], object] = lambda _: None) -> Outcome:
        """Encode a shard, unless its file is there.

        Args:
            shard: The shard.
            progress: Called with the number of documents that have just been encoded.

        Raises:
            ManifestError: The model is not what it was when the folder was begun.
            TrivecError, OSError: The model cannot be loaded, or the file cannot be written.
        """
        if self.folder.has(shard.name):
            return Outcome(shard.name, found=True)
        try:
            return self._encoded(shard, progress)
        except DocumentError as error:
            return Outcome(shard.name, fault=str(error))

    def _encoded(self, shard: Shard, progress: Callable[[int], object]) -> Outcome:
        bad: list[BadRecord] = []
        truncated = 0

        def note(record: BadRecord) -> None:
            bad.append(record)
            if not self.skip and len(bad) >= _FAULTS_ENOUGH:
                raise all_in_one(bad, True)

        documents = documents_of(shard.pieces, self.plan.files, self.manifest.reading, note)
        schema = self._schema
        for_milvus = self.manifest.layout.for_milvus
        with ExitStack() as stack:
            stream = stack.enter_context(self.folder.writing(shard.name))
            writer = stack.enter_context(ShardWriter(stream, schema, self.manifest.made_by()))
            for table in tables_of(documents, self.manifest.vectors.token_vectors is not None):
                encoded = self.encoder(table)
                writer.write(self.manifest.layout.of(encoded) if for_milvus else packed(encoded))
                truncated += int(encoded.column("truncated").to_numpy().sum())
                progress(encoded.num_rows)
            if bad and not self.skip:
                raise all_in_one(bad, False)
            if bad:  # before the shard's own file appears
                with self.folder.writing(skipped_listing(shard)) as listing:
                    listing.write("".join(f"{record.as_json()}\n" for record in bad).encode())
        return Outcome(shard.name, writer.rows, truncated, len(bad))

    @cached_property
    def _schema(self) -> Any:
        """The columns of every file; the model that gives them is seen to be the folder's."""
        _refuse(self.folder, self.manifest, self.manifest.of_model(self.encoder.identity()))
        if self.manifest.layout.for_milvus:
            return self.manifest.layout.schema(token_vectors=self.manifest.vectors.token_vectors is not None)
        return packed_schema(self.encoder.schema(input_schema()))


def begin(
    folder: Folder,
    encoder: Encoder,
    model: ModelIdentity,
    paths: Iterable[str],
    reading: Reading,
    *,
    layout: Layout | None = None,
    shard_records: int | None = None,
    skip: bool = False,
    claims: Claims,
) -> Job:
    """Begin a folder, or go on with one that was begun with the same.

    Args:
        folder: The folder.
        encoder: Computes the vectors.
        model: What `encoder.identity()` says, where it will compute.
        paths: Files, folders and URIs to read documents from.
        reading: How records become documents.
        layout: In which columns the files are; None: trivec's own.
        shard_records: Most records of a shard; None: 10,000, or what the folder has.
        skip: Leave bad records out and list them beside a shard, rather than go without the shard.
        claims: Those on the folder.

    Raises:
        ManifestError: The folder was begun with something else, which is named, or holds other files.
        DocumentError: A path leads nowhere, or a file is damaged.
        TrivecError, OSError: A file cannot be read or written.
    """
    layout = layout or Layout()
    with claims.planning():
        begun = read_manifest(folder)
        files = find_inputs(paths)
        if begun is None:
            if others := sorted(name for name in folder.names() if name != PLAN and not name.startswith(".")):
                raise ManifestError(
                    f"{folder.place} holds {others[0]} and no {MANIFEST}: name a folder that is new or empty"
                )
            plan = make_plan(files, shard_records or SHARD_RECORDS, reading.encoding)
            manifest = new_manifest(encoder.vectors, model, reading, shard_records or SHARD_RECORDS, plan, layout)
            write_manifest(folder, manifest, plan)
            return Job(folder, encoder, manifest, plan, skip)
        manifest, plan = begun
        records = shard_records or manifest.shard_records
        _refuse(folder, manifest, new_manifest(encoder.vectors, model, reading, records, plan, layout))
        if other := differing_input(plan.files, files):
            raise ManifestError(f"{folder.place} was begun with other documents: {other}. Encode into another folder")
        return Job(folder, encoder, manifest, plan, skip)


def resumed(folder: Folder, encoder: Encoder, *, skip: bool = False) -> Job:
    """Return the job of a folder that was begun, wherever that was.

    Raises:
        ManifestError: It was not begun, or its manifest or plan is damaged.
        OSError: It cannot be read.
    """
    begun = read_manifest(folder)
    if begun is None:
        raise ManifestError(f"{folder.place} holds no {MANIFEST}: does every machine reach that place?")
    return Job(folder, encoder, *begun, skip)


def missing(job: Job, part: tuple[int, int] = (1, 1)) -> list[int]:
    """Return the numbers of the shards whose file is not there.

    Args:
        job: The job.
        part: Which of how many parts of all shards to look at, the first being 1: every so-manieth shard.

    Raises:
        OSError: The folder cannot be looked into.
    """
    there = job.folder.names()
    first, parts = part
    return [i for i in range(first - 1, len(job.plan.shards), parts) if job.plan.shards[i].name not in there]


def encode_here(
    job: Job,
    numbers: Iterable[int],
    claims: Claims,
    *,
    progress: Callable[[int], object] = lambda _: None,
    waiting: Callable[[int], object] = lambda _: None,
) -> Generator[Outcome, None, None]:
    """Encode shards in this process, one after another; those that other processes have come last, if they still lack.

    Args:
        job: The job.
        numbers: The shards' numbers.
        claims: Those on the job's folder.
        progress: As of `Job.encode`.
        waiting: Called with a number of shards before they are waited for, which others have.

    Yields:
        The outcome of each shard.

    Raises: as `Job.encode`.
    """
    others = []
    for i in numbers:
        with claims.claimed(i) as granted:
            if not granted:
                others.append(i)
                continue
            outcome = job.encode(job.plan.shards[i], progress)
        yield outcome
    if others:
        waiting(len(others))
    for i in others:
        with claims.claimed(i, wait=True):
            outcome = job.encode(job.plan.shards[i], progress)
        yield outcome


def _refuse(folder: Folder, begun: Manifest, asked: Manifest) -> None:
    if other := differences(begun, asked):
        raise ManifestError(
            f"{folder.place} was begun with another model or otherwise: {'; '.join(other)}. "
            "Ask for what it was begun with, or encode into another folder"
        )
