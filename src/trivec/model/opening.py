"""From the arguments of a `load` to an opened checkpoint, its tokenizer and an engine, in this process."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from trivec.checkpoint import Checkpoint, open_checkpoint
from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.engines import Engine
from trivec.engines.precisions import PRECISION_CHOICES
from trivec.engines.selection import choose_engine, load_engine
from trivec.support.addresses import is_url
from trivec.support.arguments import switch, whole_number
from trivec.support.forks import no_fork_meanwhile, refuse_in_child
from trivec.support.handles import LoadArguments


@dataclass(frozen=True)
class Opened:
    """A model's files, opened and checked.

    Attributes:
        checkpoint: The opened model folder.
        tokenizer: Its tokenizer.
        arguments: What was asked for, checked.
        on_torch: Whether torch computes.
    """

    checkpoint: Checkpoint
    tokenizer: M3Tokenizer
    arguments: LoadArguments
    on_torch: bool

    def reading(self, max_length: int) -> Opened:
        """Return the same with another `max_length`, one that the caller has checked."""
        return replace(self, arguments=replace(self.arguments, max_length=max_length))

    def load_engine(self) -> Engine:
        """Load the engine.

        Raises:
            DeviceError: The device or precision is not available, or this is a forked child and torch computes.
        """
        if self.on_torch:
            refuse_in_child("torch")
        asked = self.arguments
        with no_fork_meanwhile():
            options = (asked.engine, asked.device, asked.precision, asked.num_threads, asked.use_cache)
            return load_engine(self.checkpoint, self.tokenizer, *options)


def check_name(name_or_path: Any) -> None:
    """Make sure that a model's name is one.

    Raises:
        TypeError: It is no text or path, or empty.
    """
    if not isinstance(name_or_path, (str, os.PathLike)) or not os.fspath(name_or_path):
        raise TypeError(f"model name {name_or_path!r:.60} must be a folder, a hub id or a URL")


def open_model(arguments: LoadArguments) -> Opened:
    """Check the arguments of a `load` and open the model's files; `M3Model.load` has their meaning and the errors.

    `max_length` is left as it is.
    """
    name = arguments.name_or_path
    if arguments.api_key is not None:
        assert not is_url(name)
        raise ValueError(f"api_key is for the URL of a server, which {str(name)!r:.60} is not")
    if arguments.precision not in PRECISION_CHOICES:
        raise ValueError(f"precision={arguments.precision!r} is not one of {', '.join(map(repr, PRECISION_CHOICES))}")
    threads = arguments.num_threads
    arguments = replace(
        arguments,
        num_threads=None if threads is None else whole_number("num_threads", threads),
        use_cache=switch("use_cache", arguments.use_cache),
        local_files_only=switch("local_files_only", arguments.local_files_only),
    )
    kind, _ = choose_engine(arguments.engine, arguments.device)  # before anything is downloaded
    checkpoint = open_checkpoint(name, arguments.cache_dir, arguments.revision, arguments.local_files_only)
    tokenizer = M3Tokenizer(checkpoint.tokenizer_file)
    tokenizer.check_fits(checkpoint.config.vocab_size, checkpoint.config.pad_token_id)
    return Opened(checkpoint, tokenizer, arguments, kind == "torch")
