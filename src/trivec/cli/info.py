"""`trivec info`: what a model folder holds and how this machine would run it."""

from __future__ import annotations

import math
import platform
from typing import Annotated, Any

import typer

from trivec.cli import options, reporting
from trivec.support.addresses import is_url


def info(
    model: options.ModelArgument,
    revision: options.Revision = None,
    offline: options.Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show a model's files, shape, heads and size, and the precision this machine would use and why.

    Of a server: its model and its limits.

    The fingerprint names its content, wherever it lies: the first time, that takes as long as reading every file.

    [dim]Examples:[/]

    trivec info BAAI/bge-m3 --offline

    trivec info ./my-fine-tuned-model --json | jq .parameters
    """
    facts = (_facts_of_server if is_url(model) else _facts)(model, revision, offline)
    if as_json:
        reporting.print_json(facts)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, show_edge=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), Text(_readable(value)))
    Console().print(table)


def _facts_of_server(url: str, revision: str | None, offline: bool) -> dict[str, Any]:
    from trivec.model import M3Model
    from trivec.model.remote import RemoteModel

    with M3Model.load(url, revision=revision, local_files_only=offline) as model:
        assert isinstance(model, RemoteModel)
        served = model.served
        return {
            "server": model.name,
            "model": served.name,
            "fingerprint": model.fingerprint,
            "precision": served.precision,
            "max_length": served.max_length,
            "vectors": served.dim,
            "texts_in_a_request": served.max_texts,
            "bytes_in_a_request": served.max_body,
            "tokens_in_the_queue": served.max_queue_tokens,
        }


def _facts(model: str, revision: str | None, offline: bool) -> dict[str, Any]:
    from trivec.checkpoint import open_checkpoint
    from trivec.checkpoint.fingerprint import model_fingerprint
    from trivec.checkpoint.tokenizer import M3Tokenizer
    from trivec.engines.processor import choose_for_cpu

    checkpoint = open_checkpoint(model, revision=revision, local_files_only=offline)
    config = checkpoint.config
    heads = {"sparse_linear": checkpoint.sparse_linear, "colbert_linear": checkpoint.colbert_linear}
    if (classifier := checkpoint.classifier) is not None:
        heads |= {"classifier.dense": classifier.dense, "classifier.out_proj": classifier.out}
    head_shapes = {name: list(head.weight.shape) for name, head in heads.items() if head is not None}
    head_tensors = [tensor for head in heads.values() if head is not None for tensor in (head.weight, head.bias)]
    tensors = [*checkpoint.encoder.values(), *head_tensors]
    choice = choose_for_cpu("auto")
    return {
        "folder": str(checkpoint.folder),
        "kind": "cross-encoder" if checkpoint.is_cross_encoder else "embeddings",
        "fingerprint": model_fingerprint(checkpoint),
        "files": {file.name: file.stat().st_size for file in checkpoint.files},
        "layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "attention_heads": config.num_heads,
        "feed_forward_size": config.intermediate_size,
        "max_length": config.max_length,
        "vocabulary": M3Tokenizer(checkpoint.tokenizer_file).vocabulary_size,
        "heads": head_shapes,
        "stored_as": sorted({tensor.dtype for tensor in tensors}),
        "parameters": sum(math.prod(tensor.shape) for tensor in tensors),
        "precision": choice.precision,
        "precision_because": choice.because,
        "engine": choice.engine,
        "engine_because": choice.engine_because,
        "int8": _int8(),
    }


def _int8() -> str:
    from trivec.engines.processor import has_int8, missing_for_native

    if has_int8():
        return "only if asked for: the processor multiplies 8-bit numbers natively"
    missing = missing_for_native()
    if missing is None:
        return "only if asked for: the native engine multiplies 8-bit weights with AVX2"
    if platform.system() == "Linux":
        return (
            "refused: the processor does not multiply 8-bit numbers natively (it has neither AMX nor VNNI), and "
            f"{missing}"
        )
    return "refused: whether the processor multiplies 8-bit numbers natively cannot be asked on this system"


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}  {_readable(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
