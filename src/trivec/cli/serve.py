"""`trivec serve`: a model, and perhaps a collection, over HTTP."""

from __future__ import annotations

import dataclasses
import ipaddress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from trivec.cli import options, reporting
from trivec.support.addresses import is_url

if TYPE_CHECKING:
    from trivec.milvus import M3Collection
    from trivec.model import M3Model
    from trivec.model.m3_reranker import M3Reranker


@options.grouped
def serve(
    model: options.ModelFilesArgument,
    *,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for a free one.")] = 8080,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="TRIVEC_API_KEY",
            help="Key that requests must carry (Authorization: Bearer KEY), except for /health and /live.",
            show_default=False,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=2, help="Most tokens of a text that are read. Default: the model's limit.", show_default=False
        ),
    ] = None,
    max_queue_tokens: Annotated[
        int,
        typer.Option(min=1, help="Most tokens that wait; a request beyond them gets 429.", rich_help_panel="Limits"),
    ] = 1_000_000,
    max_texts: Annotated[int, typer.Option(min=1, help="Most texts in a request.", rich_help_panel="Limits")] = 2048,
    max_body: Annotated[int, typer.Option(min=1, help="Most megabytes in a request.", rich_help_panel="Limits")] = 64,
    grace: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds that accepted requests have to finish after SIGTERM.", rich_help_panel="Limits"
        ),
    ] = 30.0,
    reranker: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A cross-encoder for /rerank and /search, such as BAAI/bge-reranker-v2-m3; loaded as the model is.",
            show_default=False,
            rich_help_panel="Model",
        ),
    ] = None,
    collection: options.Collection = options.DEFAULT_COLLECTION,
    uri: Annotated[
        str | None,
        typer.Option(
            help="Serve /search over a collection too: a Milvus Lite file (.db), or http://host:19530 of a server.",
            show_default=False,
            rich_help_panel="Milvus",
        ),
    ] = None,
    milvus_options: options.MilvusOptions,
    model_options: options.ModelOptions,
) -> None:
    """Serve a model over HTTP: dense, sparse and token vectors in one call, and the routes of OpenAI, TEI and Cohere.

    It listens at once; GET /health is 200 once the model is loaded. On SIGTERM it finishes the requests it has
    accepted, and ends.

    [dim]Examples:[/]

    trivec serve nano

    trivec serve BAAI/bge-m3 --host 0.0.0.0 --port 8080 --api-key "$KEY"

    trivec serve nano --uri milvus.db --collection notes

    trivec serve BAAI/bge-m3 --reranker BAAI/bge-reranker-v2-m3
    """
    from trivec.errors import MissingExtraError

    if is_url(model):
        raise typer.BadParameter(f"{model} is a server already: name a folder or a hub id")
    if reranker is not None and is_url(reranker):
        raise typer.BadParameter(f"--reranker {reranker} is a server already: name a folder or a hub id")
    for package in ("starlette", "uvicorn", "httptools", "orjson", "prometheus_client"):
        if find_spec(package) is None:  # to import them takes a moment, and clients may come before that
            raise MissingExtraError("server", package.replace("_", "-"))
    from trivec.server.listening import address_of, listen
    from trivec.server.settings import ServerSettings

    settings = ServerSettings(api_key or None, max_queue_tokens, max_texts, max_body * 1_000_000, max_length, grace)
    if settings.api_key is None and not _is_loopback(host):
        reporting.warn(f"--host {host} without --api-key: whoever reaches this address may use the server")

    def load() -> tuple[M3Model, M3Collection | None, M3Reranker | None]:
        loaded = model_options.load(model, max_length)
        cross_encoder = None if reranker is None else model_options.load_reranker(reranker)
        if cross_encoder is not None and max_length is not None:
            cross_encoder.max_length = min(cross_encoder.max_length, max(max_length, 4))  # special tokens
        if uri is None:
            return loaded, None, cross_encoder
        from trivec.milvus import M3Collection

        opened = M3Collection(collection, **dataclasses.asdict(milvus_options) | {"uri": uri})
        opened.require()
        return loaded, opened, cross_encoder

    with listen(host, port) as listening:
        reporting.say(f"listening on {address_of(listening)}")
        from trivec.server.process import serve as serve_until_told  # takes a moment to import

        serve_until_told(listening, load, settings, reporting.say)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
