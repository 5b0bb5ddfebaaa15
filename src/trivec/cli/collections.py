"""`trivec collections`: which collections there are, what they hold, and deleting one or some of its documents."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from trivec.cli import options, reporting

if TYPE_CHECKING:
    from trivec.milvus import CollectionFacts

Name = Annotated[str, typer.Argument(help="Name of the collection.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@options.grouped
def list_all(
    *,
    as_json: AsJson = False,
    milvus_options: options.MilvusOptions,
) -> None:
    """List the collections of a Milvus Lite file or a server, with their model and size.

    [dim]Examples:[/]

    trivec collections list

    trivec collections list --uri http://localhost:19530 --json | jq '.[].name'
    """
    from trivec.milvus import list_collections

    found = list_collections(**asdict(milvus_options))
    if as_json:
        reporting.print_json([asdict(facts) for facts in found])
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not found:
        Console().print("no collections")
        return
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("collection", overflow="fold")
    table.add_column("chunks", justify="right", no_wrap=True)
    table.add_column("model", overflow="fold")
    table.add_column("precision", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for facts in found:
        model, precision = (facts.model.name, facts.model.precision) if facts.model else (_not_said(facts), "")
        table.add_row(
            Text(reporting.safe(facts.name)), f"{facts.rows:,}", Text(reporting.safe(model)), precision, _size(facts)
        )
    Console().print(table)


@options.grouped
def info(
    name: Name,
    *,
    as_json: AsJson = False,
    milvus_options: options.MilvusOptions,
) -> None:
    """Show what a collection holds: documents, chunks, its model, its size, and what a chunk's text and vectors take.

    Bytes a chunk are those of the values, before an index or compression, as the mean of the first hundred chunks. What
    token vectors would take in each form is said too, where the model's files are here.

    [dim]Examples:[/]

    trivec collections info notes

    trivec collections info notes --json | jq .model.name
    """
    from trivec.milvus import M3Collection, list_collections
    from trivec.milvus.storage import storage

    with M3Collection(name, **asdict(milvus_options)) as opened:
        opened.require()
        chunks, documents = opened.count(), opened.document_count()
        takes = storage(opened)
    found = list_collections(**asdict(milvus_options))
    (facts,) = (each for each in found if each.name == name)
    known = {**asdict(facts), "rows": chunks, "documents": documents}
    known["bytes_a_chunk"] = None if takes is None else asdict(takes)
    if as_json:
        reporting.print_json(known)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, show_edge=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    lines = [("collection", name), ("documents", f"{documents:,}"), ("chunks", f"{chunks:,}")]
    if facts.model is None:
        lines.append(("model", _not_said(facts)))
    else:
        lines += [("model", facts.model.name), ("fingerprint", facts.model.fingerprint)]
        lines.append(("precision", facts.model.precision))
    lines.append(("dense vectors", f"{facts.dense_dim} dimensions"))
    lines.append(("token vectors", facts.token_vectors or "not kept"))
    if facts.bytes is not None:
        lines.append(("size", _size(facts)))
    if takes is not None:
        for kind in ("text", "dense", "sparse", "token_vectors"):
            lines.append((f"bytes a chunk: {kind.replace('_', ' ')}", f"{getattr(takes, kind):,.0f}"))
        lines += [(f"  as {form}", f"{size:,.0f}") for form, size in takes.choices.items()]
    for label, value in lines:
        table.add_row(label, Text(reporting.safe(value)))
    Console().print(table)


@options.grouped
def drop(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    milvus_options: options.MilvusOptions,
) -> None:
    """Delete a collection with all its documents, after asking.

    [dim]Examples:[/]

    trivec collections drop notes

    trivec collections drop notes --yes
    """
    from trivec.milvus import drop_collection, list_collections
    from trivec.milvus.connection import without_credentials

    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("there is nobody to ask whether to delete it: give --yes")
        rows = {facts.name: facts.rows for facts in list_collections(**asdict(milvus_options))}
        if name in rows:
            place = without_credentials(milvus_options.uri)
            asked = f"delete collection {name} of {place} with its {reporting.amount(rows[name], 'chunk')}?"
            if not typer.confirm(reporting.safe(asked), err=True):
                reporting.say("nothing deleted")
                raise typer.Exit(reporting.FAILED)
    drop_collection(name, **asdict(milvus_options))
    reporting.say(f"deleted collection {name}")


@options.grouped
def delete(
    name: Name,
    ids: Annotated[list[str], typer.Argument(help="Ids of documents, or of single chunks.", show_default=False)],
    *,
    milvus_options: options.MilvusOptions,
) -> None:
    """Delete documents from a collection: by their ids, with all their chunks, or single chunks by the chunks' ids.

    [dim]Examples:[/]

    trivec collections delete notes notes/old.md

    trivec collections delete notes notes/a.md#2 faq.jsonl:7
    """
    from trivec.milvus import M3Collection, MilvusError, delete_documents

    with M3Collection(name, **asdict(milvus_options)) as opened:
        opened.require()
        deleted, missing = delete_documents(opened, ids)
        left = opened.count()
    reporting.say(f"{reporting.amount(deleted, 'chunk')} deleted; collection {name} now holds {left}")
    if missing:
        raise MilvusError(f"collection {name} holds no {', '.join(map(repr, missing))}")


def _not_said(facts: CollectionFacts) -> str:
    return "not of trivec" if facts.dense_dim is None else "does not say"


def _size(facts: CollectionFacts) -> str:
    if facts.bytes is None:
        return ""
    return f"{facts.bytes / 1e6:,.1f} MB" if facts.bytes >= 1e6 else f"{facts.bytes / 1e3:,.0f} kB"
