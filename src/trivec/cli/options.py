"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trivec.engines.precisions import PRECISIONS

if TYPE_CHECKING:
    from trivec.model import M3Model

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A folder in BAAI/bge-m3's layout, or a Hugging Face id.", rich_help_panel="Model"
    ),
]

OwnModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A folder in BAAI/bge-m3's layout, or a Hugging Face id. Default: the model that the collection names, "
        "BAAI/bge-m3 for a new one.",
        show_default=False,
        rich_help_panel="Model",
    ),
]


class Precision(str, Enum):
    """What numbers to compute with."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


class Engine(str, Enum):
    """What computes."""

    auto = "auto"
    openvino = "openvino"
    native = "native"
    torch = "torch"


PrecisionOption = Annotated[
    Precision,
    typer.Option(
        help=", ".join(f"{name} ({precision.meaning})" for name, precision in PRECISIONS.items())
        + ", or auto: bf16 where the processor or GPU has it.",
        rich_help_panel="Model",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, mps, or several: cuda:0,cuda:1. Default: the CPU.", rich_help_panel="Model"),
]
EngineOption = Annotated[
    Engine,
    typer.Option(
        help="openvino or native (CPU), torch (GPUs), or auto: what computes fastest there.", rich_help_panel="Model"
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a Hugging Face model.", rich_help_panel="Model")
]
Offline = Annotated[bool, typer.Option("--offline", help="Use downloaded models only.", rich_help_panel="Model")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads to compute with. Default: every core.", rich_help_panel="Model")
]
NoCache = Annotated[
    bool,
    typer.Option("--no-cache", help="Keep nothing on disk for the next run to start faster.", rich_help_panel="Model"),
]

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


class OnError(str, Enum):
    """What to do about records that cannot be documents."""

    stop = "stop"
    skip = "skip"


Encoding = Annotated[
    str | None,
    typer.Option(
        help="Of files without a byte order mark: cp1252, shift_jis, ... Default: UTF-8.",
        show_default=False,
        rich_help_panel="Records",
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        help="Between the columns of .csv files: a character, or tab. Default: a comma.",
        show_default=False,
        rich_help_panel="Records",
    ),
]
OnErrorOption = Annotated[
    OnError,
    typer.Option(
        help="What bad records do: stop before any work, or be skipped and listed in a file.", rich_help_panel="Records"
    ),
]

Uri = Annotated[
    str,
    typer.Option(help="A Milvus Lite file (.db), or http://host:19530 of a server.", rich_help_panel="Milvus"),
]
Collection = Annotated[
    str, typer.Option("--collection", "-c", help="Name of the collection.", rich_help_panel="Milvus")
]
Token = Annotated[
    str,
    typer.Option(
        envvar="MILVUS_TOKEN",
        help="API key or user:password of a server.",
        show_default=False,
        rich_help_panel="Milvus",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(min=0.1, help="Seconds that a server is given to answer a request.", rich_help_panel="Milvus"),
]
Database = Annotated[
    str, typer.Option("--db", help="Database of a server.", show_default=False, rich_help_panel="Milvus")
]

BatchSize = Annotated[
    int,
    typer.Option(
        min=1, help="Memory knob: a batch holds up to this many times 256 tokens, on the CPU at most 1,024 in all."
    ),
]

DEFAULT_MODEL = "BAAI/bge-m3"
DEFAULT_URI = "milvus.db"
DEFAULT_COLLECTION = "documents"
DEFAULT_TIMEOUT = 30.0


def load_model(
    name: str,
    precision: Precision,
    device: str | None,
    engine: Engine,
    revision: str | None,
    offline: bool,
    threads: int | None,
    no_cache: bool,
) -> M3Model:
    """Load the model that the shared options name."""
    from trivec.model import M3Model  # loads OpenVINO, which `--help` must not

    return M3Model.load(
        name,
        device=[name.strip() for name in device.split(",")] if device else None,
        engine=engine.value,
        precision=precision.value,
        revision=revision,
        local_files_only=offline,
        num_threads=threads,
        use_cache=not no_cache,
    )


def require_head(there: bool, model: str, head: str, remedy: str) -> None:
    """Refuse a command line that asks for vectors which the model has no head for, saying which option to change.

    Raises:
        MissingHeadError: The head is not there.
    """
    from trivec.errors import MissingHeadError

    if not there:
        raise MissingHeadError(f"{model} has no {head}_linear.pt, so it gives no {head} vectors: {remedy}")
