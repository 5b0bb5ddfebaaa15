"""`trivec download`: a model's files onto this machine, before they are needed or where there is no network later."""

from __future__ import annotations

from typing import Annotated

import typer

from trivec.cli import options, reporting


def download(
    model: Annotated[str, typer.Argument(help="A Hugging Face id, such as BAAI/bge-m3.")],
    revision: options.Revision = None,
    offline: options.Offline = False,
) -> None:
    """Download the files of a model that trivec reads, check them, and print the folder they lie in.

    What is there already is not downloaded again, also without a network. The folder is Hugging Face's cache
    (HF_HOME moves it); every command finds the model there by its id.

    [dim]Examples:[/]

    trivec download BAAI/bge-m3

    cp -rL "$(trivec download BAAI/bge-m3)" /media/stick/bge-m3
    """
    from trivec.checkpoint import open_checkpoint
    from trivec.checkpoint.tokenizer import M3Tokenizer

    checkpoint = open_checkpoint(model, revision=revision, local_files_only=offline)
    tokenizer = M3Tokenizer(checkpoint.tokenizer_file)
    tokenizer.check_fits(checkpoint.config.vocab_size, checkpoint.config.pad_token_id)
    sizes = {file.name: file.stat().st_size for file in checkpoint.files}
    for name, size in sizes.items():
        reporting.say(f"{size / 1e6:>10,.1f} MB  {name}")
    reporting.say(f"{sum(sizes.values()) / 1e6:>10,.1f} MB  in {len(sizes)} files, ready to use as {model}")
    typer.echo(checkpoint.folder)
