"""`trivec encode --out FOLDER/` and `--check`: corpora in shards, by one process, several, or a Ray cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trivec.cli import options, reporting
from trivec.cli.sources import delimiter_of
from trivec.errors import TrivecError

if TYPE_CHECKING:
    from trivec.bulk.layout import Layout
    from trivec.shards.claims import Claims
    from trivec.shards.encoder import Encoder, ModelIdentity
    from trivec.shards.sharded_run import Job, Outcome

_FILES = (".npz", ".parquet")
_PART = re.compile(r"(\d+)/(\d+)")
# Shards or files that a message names.
_NAMED = 20


@dataclass(frozen=True)
class FolderOptions:
    """What there is to say about a folder of shards."""

    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Encode nothing: check folders made before for what is missing, damaged or of another model.",
            rich_help_panel="Folders",
        ),
    ] = False
    token_vectors: Annotated[
        Literal["fp16", "int8"] | None,
        typer.Option(
            help="Write token vectors too: as float16, or as int8 with a scale per vector.",
            show_default=False,
            rich_help_panel="Folders",
        ),
    ] = None
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="A field to keep as metadata; repeatable. Default: all.", rich_help_panel="Folders"),
    ] = None
    for_milvus: Annotated[
        bool,
        typer.Option(
            "--for-milvus",
            help="Files that a Milvus server's bulk import reads: trivec import gives them to it.",
            rich_help_panel="Folders",
        ),
    ] = False
    partition_key: Annotated[
        str | None,
        typer.Option(
            help="With --for-milvus: the metadata field that the collection is partitioned by, lang or tenant:int.",
            show_default=False,
            rich_help_panel="Folders",
        ),
    ] = None
    shard_rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most documents of a file. Default: 10,000.", show_default=False, rich_help_panel="Folders"
        ),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Encode part I of N: for places without file locks, such as object stores.",
            show_default=False,
            rich_help_panel="Folders",
        ),
    ] = None
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Encode on this Ray cluster: host:6379, auto, or local for one that is started here.",
            show_default=False,
            rich_help_panel="Folders",
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes to encode with on the cluster, each with --threads cores or a GPU. Default: one a node.",
            show_default=False,
            rich_help_panel="Folders",
        ),
    ] = None

    def require_folder(self, out: str | None) -> None:
        """Refuse these options where something else than a folder is written.

        Raises:
            typer.BadParameter: One is given.
        """
        named = {
            "--token-vectors": self.token_vectors,
            "--metadata": self.metadata,
            "--for-milvus": self.for_milvus,
            "--partition-key": self.partition_key,
            "--shard-rows": self.shard_rows,
            "--shard": self.shard,
            "--ray": self.ray,
            "--workers": self.workers,
        }
        given = [name for name, value in named.items() if value]
        if given and (out is None or not is_folder(out)):
            raise typer.BadParameter(f"{given[0]} is for a folder: name it with a slash behind, as in --out vectors/")

    def form(self, colbert: bool) -> str | None:
        """How token vectors are stored: those of --colbert in half precision."""
        return self.token_vectors or ("fp16" if colbert else None)

    def layout(self, dense: bool, sparse: bool) -> Layout:
        """In which columns the files are.

        Raises:
            typer.BadParameter: Milvus' columns are not all asked for, or the partition key is no name of a field.
        """
        from trivec.bulk.layout import Layout
        from trivec.bulk.partition_key import PartitionKey

        if self.for_milvus and not (dense and sparse):
            raise typer.BadParameter("--for-milvus needs both vectors: leave out --no-dense and --no-sparse")
        if self.partition_key is not None:
            if not self.for_milvus:
                raise typer.BadParameter("--partition-key is for --for-milvus: `trivec import` takes it too")
            try:
                PartitionKey.parse(self.partition_key)
            except ValueError as error:
                raise typer.BadParameter(f"--partition-key: {error}") from error
        return Layout(self.for_milvus, self.partition_key)

    @property
    def part(self) -> tuple[int, int]:
        """Which part of how many.

        Raises:
            typer.BadParameter: It is not so written.
        """
        if self.shard is None:
            return 1, 1
        found = _PART.fullmatch(self.shard)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise typer.BadParameter(f"--shard {self.shard} is not written as 1/4, 2/4, 3/4 or 4/4 are")
        return int(found[1]), int(found[2])


def is_folder(out: str) -> bool:
    """Whether what stands behind --out is a folder: by a slash at its end, or as it is one, or as a URI."""
    return out.endswith("/") or (not out.endswith(_FILES) and ("://" in out or Path(out).is_dir()))


def encode_into_folder(
    paths: list[str],
    out: str,
    model: str,
    encoder_options: dict[str, Any],
    source_options: options.SourceOptions,
    model_options: options.ModelOptions,
    folder_options: FolderOptions,
) -> None:
    """Encode what `paths` hold into the folder `out`, or what of it is not there yet."""
    from trivec.documents.decoding import checked_encoding
    from trivec.documents.reading import check_delimiter
    from trivec.shards.claims import Claims
    from trivec.shards.encoder import Encoder
    from trivec.shards.passages import Reading
    from trivec.shards.places import Folder
    from trivec.shards.sharded_run import begin
    from trivec.support.extras import require

    require("pyarrow")
    if folder_options.workers is not None and folder_options.ray is None:
        raise typer.BadParameter("--workers is for --ray; without it, run the same command several times at once")
    layout = folder_options.layout(encoder_options["dense"], encoder_options["sparse"])
    delimiter, fields = delimiter_of(source_options), folder_options.metadata
    try:
        check_delimiter(delimiter)
        encoder = Encoder(model, **encoder_options, **model_options.arguments)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}" if str(error).startswith("delimiter") else str(error)) from error
    encoding = None if source_options.encoding is None else checked_encoding(source_options.encoding)
    metadata_fields = None if fields is None else tuple(fields)
    reading = Reading(source_options.text_field, source_options.id_field, metadata_fields, encoding, delimiter)
    skip = source_options.on_error == "skip"
    folder = Folder(out)
    with Claims(folder.local) as claims:

        def begun(encoder: Encoder, identity: ModelIdentity) -> Job:
            rows = folder_options.shard_rows
            return begin(
                folder, encoder, identity, paths, reading, layout=layout, shard_records=rows, skip=skip, claims=claims
            )

        if folder_options.ray is None:
            _encode_here(begun, encoder, claims, folder_options)
        else:
            _encode_on_ray(begun, encoder, folder_options, model_options)


def check_folders(places: list[str]) -> None:
    """Say what is wrong with folders made before; exit code 1 if something is."""
    from trivec.shards.folder_check import begun, check_folder
    from trivec.shards.places import Folder

    wrong = False
    for place in places:
        folder = Folder(place)
        manifest, shards = begun(folder)
        findings = list(check_folder(folder))
        for finding in findings:
            typer.echo(str(finding))
        wrong |= bool(findings)
        model = f"{manifest.model.name} ({manifest.model.fingerprint[:12]}…), {manifest.model.precision}"
        state = f"{reporting.amount(len(findings), 'fault')}" if findings else "complete and undamaged"
        reporting.say(f"{place}: {reporting.amount(shards, 'shard')} of {model}: {state}")
    if wrong:
        raise typer.Exit(reporting.FAILED)


def _encode_here(
    begun: Callable[[Encoder, ModelIdentity], Job], encoder: Encoder, claims: Claims, folder_options: FolderOptions
) -> None:
    from trivec.shards.sharded_run import encode_here, missing
    from trivec.support.progress import progress_bar

    job = begun(encoder, encoder.identity())
    numbers = missing(job, folder_options.part)
    shards = job.plan.shards
    with progress_bar(
        sum(shards[i].records for i in numbers), "Encoding", "documents", reporting.stderr.is_terminal
    ) as bar:

        def waiting(number: int) -> None:
            reporting.say(f"waiting for {reporting.amount(number, 'shard')} that other processes have")

        with closing(encode_here(job, numbers, claims, progress=bar.update, waiting=waiting)) as outcomes:
            _followed(outcomes, job, len(numbers), folder_options.part)


def _encode_on_ray(
    begun: Callable[[Encoder, ModelIdentity], Job],
    encoder: Encoder,
    folder_options: FolderOptions,
    model_options: options.ModelOptions,
) -> None:
    from trivec.shards.ray_engine import RayCluster
    from trivec.shards.sharded_run import missing
    from trivec.support.progress import progress_bar

    device = model_options.device or ("cuda" if model_options.engine == "torch" else "cpu")
    with RayCluster(
        str(folder_options.ray), folder_options.workers, model_options.threads, gpu=not device.startswith("cpu")
    ) as cluster:
        encoder = encoder.with_threads(cluster.threads)
        job = begun(encoder, cluster.identity(encoder))
        numbers = missing(job, folder_options.part)
        total = sum(job.plan.shards[i].records for i in numbers)
        with progress_bar(total, "Encoding", "documents", reporting.stderr.is_terminal) as bar:
            outcomes = (_counted(outcome, bar) for outcome in cluster.encode(job, numbers))
            with closing(outcomes):
                _followed(outcomes, job, len(numbers), folder_options.part)


def _counted(outcome: Outcome, bar: Any) -> Outcome:
    bar.update(outcome.documents)
    return outcome


def _followed(outcomes: Iterator[Outcome], job: Job, total: int, part: tuple[int, int]) -> None:
    """Follow shards to the end, then say what was done, and fail where one has no file."""
    done: list[Outcome] = []
    try:
        for outcome in outcomes:
            done.append(outcome)
    except KeyboardInterrupt as interrupt:
        raise type(interrupt)(
            f"{len(done):,} of {reporting.amount(total, 'shard')} finished; the same command goes on from there"
        ) from None
    made = [outcome for outcome in done if not outcome.found and outcome.fault is None]
    documents = sum(outcome.documents for outcome in made)
    if skipped := sum(outcome.skipped for outcome in made):
        reporting.warn(
            f"{reporting.amount(skipped, 'record')} skipped: {job.folder.place} lists them in _*.skipped.jsonl"
        )
    if truncated := sum(outcome.truncated for outcome in made):
        most = job.manifest.model.max_length
        reporting.warn(
            f"{truncated:,} of {reporting.amount(documents, 'text')} had more than {most} tokens and were cut"
        )
    of_part = "" if part[1] == 1 else f", part {part[0]} of {part[1]}"
    reporting.say(
        f"{reporting.amount(documents, 'document')} encoded into {reporting.amount(len(made), 'shard')} of "
        f"{job.folder.place}{of_part}"
    )
    if faults := [outcome for outcome in done if outcome.fault is not None]:
        told = "; ".join(f"{outcome.shard}: {outcome.fault}" for outcome in faults[:_NAMED])
        raise TrivecError(
            f"{reporting.amount(len(faults), 'shard')} could not be encoded: {told}; --on-error skip leaves bad "
            "records out and lists them"
        )
