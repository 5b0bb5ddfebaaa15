"""`trivec search`: a query against a Milvus collection, as a table or JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trivec.cli import options, reporting
from trivec.search.modes import Mode, Rerank

if TYPE_CHECKING:
    from rich.table import Table

    from trivec.milvus import Hit

# Words and characters of a hit's text that the table shows; --json has all of it.
_WORDS_SHOWN = 8
_CHARACTERS_SHOWN = 240


@options.grouped
def search(
    query: Annotated[str, typer.Argument(help="What to look for.", show_default=False)],
    *,
    mode: Annotated[Mode, typer.Option(help="Which vectors to search.")] = "hybrid",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Hits to show.")] = 10,
    offset: Annotated[
        int, typer.Option(min=0, help="Hits to skip first: --limit 10 --offset 10 is the second page.")
    ] = 0,
    filter: Annotated[str, typer.Option(help="Milvus filter expression, passed on as it is.", show_default=False)] = "",
    ranker: Annotated[
        Literal["rrf", "weighted"] | None,
        typer.Option(
            help="How --mode hybrid joins its two rankings. Default: weighted by the model's own weights, else rrf.",
            show_default=False,
        ),
    ] = None,
    dense_weight: Annotated[
        float | None, typer.Option(min=0, help="With --ranker weighted: weight of the dense score. Default: 0.4.")
    ] = None,
    sparse_weight: Annotated[
        float | None, typer.Option(min=0, help="With --ranker weighted: weight of the sparse score. Default: 0.2.")
    ] = None,
    rerank: Annotated[
        Rerank | None,
        typer.Option(help="Order the best candidates by their token vectors, or by a cross-encoder (slower, better)."),
    ] = None,
    reranker: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The model of --rerank cross-encoder: a folder, Hugging Face id, or URL of a trivec serve --reranker. "
            "Default: BAAI/bge-reranker-v2-m3.",
            show_default=False,
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Candidates from each ranking, and for --rerank. Default: 3 x (offset + limit)."),
    ] = None,
    group: Annotated[
        Literal["document"] | None,
        typer.Option(help="Show documents, by their best chunk, instead of chunks.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    collection: options.Collection = options.DEFAULT_COLLECTION,
    milvus_options: options.MilvusOptions,
    server_options: options.ServerSearchOptions,
    model: options.OwnModel = None,
    model_options: options.ModelOptions,
) -> None:
    """Search a collection and show the scores and the words that matched.

    The query is encoded with the model that the collection names, unless [bold]--model[/] says otherwise; another model
    than the one its vectors were made with is refused.

    [dim]Examples:[/]

    trivec search "where was Turing born?" --collection notes

    trivec search "Turing" --mode sparse --filter 'year < 1950 and lang == "en"' --limit 3

    trivec search "where was Turing born?" --rerank colbert --json | jq '.hits[0].text'

    trivec search "where was Turing born?" --rerank cross-encoder --reranker BAAI/bge-reranker-v2-m3

    trivec search "where was Turing born?" --mode all --collection notes
    """
    if candidates is not None and candidates < offset + limit:
        raise typer.BadParameter(f"--candidates {candidates} is below --offset {offset} plus --limit {limit}")
    if not query.strip():
        raise typer.BadParameter("the query is empty")
    if ranker is not None and mode != "hybrid":
        raise typer.BadParameter(f"--ranker joins the two rankings of --mode hybrid, not of --mode {mode}")
    if reranker is not None and rerank != "cross-encoder":
        raise typer.BadParameter(f"--reranker {reranker} needs --rerank cross-encoder")
    if rerank == "colbert" and mode in ("multi", "all"):
        raise typer.BadParameter(f"--mode {mode} ranks by token vectors already: leave out --rerank")
    weights = {"dense": dense_weight, "sparse": sparse_weight}
    given = {name: weight for name, weight in weights.items() if weight is not None}
    if given and ranker != "weighted":
        raise typer.BadParameter("--dense-weight and --sparse-weight need --ranker weighted")
    from trivec.milvus import RRF, M3Collection, Weighted

    try:
        fusion = {None: None, "rrf": RRF(), "weighted": Weighted(**given)}[ranker]
    except ValueError as error:
        raise typer.BadParameter(f"--dense-weight and --sparse-weight: {error}") from error
    with (
        ExitStack() as stack,
        M3Collection(collection, **dataclasses.asdict(milvus_options), **dataclasses.asdict(server_options)) as opened,
    ):
        opened.require()
        recorded = opened.recorded_model
        model = model or (recorded.name if recorded else options.DEFAULT_MODEL)
        loaded = stack.enter_context(model_options.load(model))
        opened.use_model(loaded)
        options.require_head(loaded.has_sparse or mode in ("dense", "multi"), model, "sparse", "use --mode dense")
        by_tokens = mode in ("multi", "all")
        remedy = "use --mode dense" if by_tokens else "leave out --rerank"
        options.require_head(loaded.has_colbert or not (by_tokens or rerank == "colbert"), model, "colbert", remedy)
        cross_encoder = None
        if rerank == "cross-encoder":
            cross_encoder = stack.enter_context(model_options.load_reranker(reranker))
        hits = opened.search(
            query,
            mode,
            limit=limit,
            offset=offset,
            filter=filter,
            ranker=fusion,
            rerank=rerank,
            reranker=cross_encoder,
            candidates=candidates,
            matched_words=loaded.has_sparse,
            group=group,
        )
    if as_json:
        reporting.print_json({"query": query, "mode": mode, "hits": [dataclasses.asdict(hit) for hit in hits]})
        return
    from rich.console import Console

    Console().print(_table(hits) if hits else "nothing found")


def _table(hits: Sequence[Hit]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False, header_style="bold", show_lines=True)
    by_tokens = any(hit.colbert_score is not None for hit in hits)  # a cross-encoder's is the score itself
    for name in ("score", "dense", "sparse", *(["colbert"] if by_tokens else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("document", ratio=1, overflow="fold")
    for hit in hits:
        words = [word for word, _ in hit.matched_words or () if word.strip("\u2581")][:_WORDS_SHOWN]
        text = reporting.safe(" ".join(hit.text.split()))
        shown = Text(text[:_CHARACTERS_SHOWN] + ("…" if len(text) > _CHARACTERS_SHOWN else ""))
        document = Text.assemble((reporting.safe(hit.id), "bold"), "\n", shown)
        if words:
            document.append_text(Text.assemble("\n", ("matched: ", "dim"), (reporting.safe(", ".join(words)), "green")))
        scores = [hit.score, hit.dense_score, hit.sparse_score, *([hit.colbert_score] if by_tokens else [])]
        table.add_row(*map(_number, scores), document)
    return table


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"
