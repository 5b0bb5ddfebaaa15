"""Options that several commands share, and groups of them: a dataclass whose fields are options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from trivec.engines.precisions import ENGINES, PRECISION_CHOICES, PRECISIONS

if TYPE_CHECKING:
    from trivec.model import M3Model
    from trivec.model.m3_reranker import M3Reranker

DEFAULT_MODEL = "BAAI/bge-m3"
DEFAULT_RERANKER = "BAAI/bge-reranker-v2-m3"
DEFAULT_COLLECTION = "documents"

# Choices of the shell, out of the tables; a type checker knows no Literal of names that are computed.
Precision = Literal[PRECISION_CHOICES]  # type: ignore[valid-type]
Engine = Literal[ENGINES]  # type: ignore[valid-type]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its groups: of each parameter that is a dataclass, every field.

    A field that the command declares as a parameter too is declared as there; command and group both get its value.
    """
    own = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {name: each.annotation for name, each in own.items() if is_dataclass(each.annotation)}
    shown = []
    for name, parameter in own.items():
        if name not in groups:
            shown.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(groups[name], include_extras=True)
        shown += [
            parameter.replace(
                name=field.name, kind=parameter.KEYWORD_ONLY, annotation=hints[field.name], default=field.default
            )
            for field in fields(groups[name])
            if field.name not in own
        ]

    @wraps(command)
    def run(**given: Any) -> None:
        filled = {
            name: group(**{field.name: given[field.name] for field in fields(group)}) for name, group in groups.items()
        }
        command(**{name: filled[name] if name in filled else given[name] for name in own})

    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return run


_FILES = "A folder in BAAI/bge-m3's layout, or a Hugging Face id."
# Where a server may compute as well; its key is what TRIVEC_API_KEY says.
_ANYWHERE = "A folder in BAAI/bge-m3's layout, a Hugging Face id, or the URL of a trivec serve."

Model = Annotated[str, typer.Option("--model", "-m", help=_ANYWHERE, rich_help_panel="Model")]

ModelArgument = Annotated[str, typer.Argument(help=_ANYWHERE, show_default=False)]
ModelFilesArgument = Annotated[str, typer.Argument(help=_FILES, show_default=False)]
OwnModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help=f"{_ANYWHERE} Default: the model that the collection names, BAAI/bge-m3 for a new one.",
        show_default=False,
        rich_help_panel="Model",
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a Hugging Face model.", rich_help_panel="Model")
]
Offline = Annotated[bool, typer.Option("--offline", help="Use downloaded models only.", rich_help_panel="Model")]


@dataclass(frozen=True)
class ModelOptions:
    """How a model is loaded. Which one is an argument of some commands, an option of others, and not in here."""

    precision: Annotated[
        Precision,
        typer.Option(
            help=", ".join(f"{name} ({precision.meaning})" for name, precision in PRECISIONS.items())
            + ", or auto: bf16 where the processor or GPU has it.",
            rich_help_panel="Model",
        ),
    ] = "auto"
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, mps, or several: cuda:0,cuda:1. Default: the CPU.", rich_help_panel="Model"),
    ] = None
    engine: Annotated[
        Engine,
        typer.Option(
            help="openvino or native (CPU), torch (GPUs), or auto: what computes fastest there.",
            rich_help_panel="Model",
        ),
    ] = "auto"
    revision: Revision = None
    offline: Offline = False
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads to compute with. Default: every core.", rich_help_panel="Model"),
    ] = None
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Keep no converted weights on disk: every run converts them again.",
            rich_help_panel="Model",
        ),
    ] = False

    @property
    def devices(self) -> list[str] | None:
        """The devices that are named, None for the engine's own choice."""
        return device_names(self.device)

    @property
    def arguments(self) -> dict[str, Any]:
        """The same as arguments of `M3Model.load`."""
        return {
            "device": self.devices,
            "engine": self.engine,
            "precision": self.precision,
            "revision": self.revision,
            "local_files_only": self.offline,
            "num_threads": self.threads,
            "use_cache": not self.no_cache,
        }

    def load(self, name: str, max_length: int | None = None) -> M3Model:
        """Load the model of that name, to read as many tokens of a text; None: as many as it can."""
        from trivec.model import M3Model  # loads OpenVINO, which `--help` must not

        return M3Model.load(name, max_length=max_length, **self.arguments)

    def is_cross_encoder(self, name: str) -> bool:
        """Whether the model of that name scores pairs and gives no vectors; no, where it cannot be opened."""
        from trivec.checkpoint import open_checkpoint
        from trivec.errors import CheckpointError

        try:
            return open_checkpoint(name, revision=self.revision, local_files_only=self.offline).is_cross_encoder
        except CheckpointError:  # which loading it says
            return False

    def load_reranker(self, name: str | None) -> M3Reranker:
        """Load the cross-encoder of that name, the default one if None, as a model would be; `revision` is not its."""
        from trivec.model.m3_reranker import M3Reranker

        return M3Reranker.load(
            name or DEFAULT_RERANKER,
            device=self.devices,
            engine=self.engine,
            precision=self.precision,
            local_files_only=self.offline,
            num_threads=self.threads,
            use_cache=not self.no_cache,
        )


def device_names(text: str | None) -> list[str] | None:
    """Split what stands behind --device; None if there is nothing.

    >>> device_names("cuda:0, cuda:1"), device_names(None)
    (['cuda:0', 'cuda:1'], None)
    """
    return [name.strip() for name in text.split(",")] if text else None


Paths = Annotated[
    list[Path],
    typer.Argument(
        help="Files (.txt .md .html .jsonl .csv .tsv .parquet), folders of such files, or - for lines of stdin.",
        show_default=False,
    ),
]
TextField = Annotated[
    str,
    typer.Option(help="Field of a .jsonl, .csv, .tsv or .parquet record with its text.", rich_help_panel="Records"),
]
IdField = Annotated[
    str | None,
    typer.Option(help="Field that holds its id. Default: id, or else path and line.", rich_help_panel="Records"),
]


@dataclass(frozen=True)
class SourceOptions:
    """How files are read as documents."""

    text_field: TextField = "text"
    id_field: IdField = None
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Encoding of files without a byte order mark: cp1252, shift_jis, ... Default: UTF-8.",
            show_default=False,
            rich_help_panel="Records",
        ),
    ] = None
    delimiter: Annotated[
        str | None,
        typer.Option(
            help="Separator of the columns of .csv files: a character, or tab. Default: a comma.",
            show_default=False,
            rich_help_panel="Records",
        ),
    ] = None
    on_error: Annotated[
        Literal["stop", "skip"],
        typer.Option(
            help="What bad records do: stop before any work, or be skipped and listed in a file.",
            rich_help_panel="Records",
        ),
    ] = "stop"


Collection = Annotated[
    str, typer.Option("--collection", "-c", help="Name of the collection.", rich_help_panel="Milvus")
]


@dataclass(frozen=True)
class MilvusOptions:
    """Where collections are; the fields are called as the arguments of everything that connects."""

    uri: Annotated[
        str,
        typer.Option(help="A Milvus Lite file (.db), or http://host:19530 of a server.", rich_help_panel="Milvus"),
    ] = "milvus.db"
    token: Annotated[
        str,
        typer.Option(
            envvar="MILVUS_TOKEN",
            help="API key or user:password of a server.",
            show_default=False,
            rich_help_panel="Milvus",
        ),
    ] = ""
    db_name: Annotated[
        str, typer.Option("--db", help="Database of a server.", show_default=False, rich_help_panel="Milvus")
    ] = ""
    timeout: Annotated[
        float,
        typer.Option(min=0.1, help="Seconds that a server has to answer a request.", rich_help_panel="Milvus"),
    ] = 30.0


Mcls = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="For long texts: put <s> before every N tokens (256 in the M3 paper); the dense vector is their mean.",
        show_default=False,
    ),
]
Consistency = Annotated[
    Literal["Strong", "Bounded", "Session", "Eventually"] | None,
    typer.Option(
        help="How recent the data that a server searches must be. Default: Session, or what the collection has.",
        show_default=False,
        rich_help_panel="Milvus",
    ),
]


@dataclass(frozen=True)
class NewCollectionOptions:
    """How a collection is made; one that exists must be as they say, where they say something."""

    partition_key: Annotated[
        str | None,
        typer.Option(
            help="Metadata field to partition by, which every document has: lang, or tenant:int for integers.",
            show_default=False,
            rich_help_panel="New collection",
        ),
    ] = None
    consistency: Consistency = None
    dense_index: Annotated[
        Literal["hnsw", "ivf_sq8", "diskann"] | None,
        typer.Option(
            help="A server's index of dense vectors. Default: the server's choice.",
            show_default=False,
            rich_help_panel="New collection",
        ),
    ] = None
    hnsw_m: Annotated[
        int | None,
        typer.Option(
            min=2, help="hnsw: links per row. Default: 16.", show_default=False, rich_help_panel="New collection"
        ),
    ] = None
    hnsw_ef_construction: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="hnsw: rows compared to place a new one. Default: 200.",
            show_default=False,
            rich_help_panel="New collection",
        ),
    ] = None
    ivf_nlist: Annotated[
        int | None,
        typer.Option(
            min=1, help="ivf_sq8: clusters. Default: 1024.", show_default=False, rich_help_panel="New collection"
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Return them as arguments of `M3Collection`.

        Raises:
            typer.BadParameter: One belongs to another index, or the partition key is no name of a field.
        """
        from trivec.bulk.partition_key import PartitionKey
        from trivec.milvus import DISKANN, HNSW, IVF_SQ8

        hnsw = {"m": self.hnsw_m, "ef_construction": self.hnsw_ef_construction}
        given = {
            "hnsw": {name: value for name, value in hnsw.items() if value is not None},
            "ivf_sq8": {} if self.ivf_nlist is None else {"nlist": self.ivf_nlist},
        }
        for index, parameters in given.items():
            if parameters and self.dense_index != index:
                raise typer.BadParameter(
                    f"--{'hnsw-m and --hnsw-ef-construction' if index == 'hnsw' else 'ivf-nlist'}: "
                    f"only with --dense-index {index}"
                )
        try:
            if self.partition_key is not None:
                PartitionKey.parse(self.partition_key)
        except ValueError as error:
            raise typer.BadParameter(f"--partition-key: {error}") from error
        indexes: dict[str | None, Any] = {
            None: lambda: None,
            "hnsw": lambda: HNSW(**given["hnsw"]),
            "ivf_sq8": lambda: IVF_SQ8(**given["ivf_sq8"]),
            "diskann": DISKANN,
        }
        return {
            "partition_key": self.partition_key,
            "consistency": self.consistency,
            "dense_index": indexes[self.dense_index](),
        }


@dataclass(frozen=True)
class ServerSearchOptions:
    """How a server searches; the fields are arguments of `M3Collection`."""

    effort: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How much of the dense index a server searches: ef (hnsw), nprobe (ivf), search_list (diskann).",
            show_default=False,
            rich_help_panel="Milvus",
        ),
    ] = None
    drop_ratio: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99,
            help="Share of a query's lexical weights that a server leaves out, smallest first.",
            rich_help_panel="Milvus",
        ),
    ] = 0.0
    consistency: Consistency = None


MaxBatchTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most tokens computed at once, to save memory; a longer text is computed alone. Default: what is fastest.",
        show_default=False,
    ),
]


def require_head(there: bool, model: str, head: str, remedy: str) -> None:
    """Refuse a command line that asks for vectors which the model has no head for, saying which option to change.

    Raises:
        MissingHeadError: The head is not there.
    """
    from trivec.errors import MissingHeadError

    if not there:
        raise MissingHeadError(f"{model} has no {head}_linear.pt, so it gives no {head} vectors: {remedy}")
