"""What the shell calls what Python calls otherwise: messages name arguments, people in the shell have options.

One table for every message that a command shows, so that the library can name its arguments as they are.
"""

from __future__ import annotations

import re

_FLAGS = {
    "local_files_only=True": "--offline",
    "use_cache=False": "--no-cache",
    "return_dense=False": "--no-dense",
    "return_sparse=False": "--no-sparse",
    "return_colbert_vecs=True": "--colbert",
}
# Arguments whose option has another name, or the same.
_OPTIONS = {
    "max_batch_tokens": "--max-batch-tokens",
    "device": "--device",
    "engine": "--engine",
    "limit": "--limit",
    "max_length": "--max-length",
    "mode": "--mode",
    "num_threads": "--threads",
    "precision": "--precision",
    "revision": "--revision",
}
_NAMED = re.compile(
    rf"(?<![\w./-])(?:(?P<flag>{'|'.join(map(re.escape, _FLAGS))})\b"
    rf"|(?P<name>{'|'.join(_OPTIONS)})=(?:(?P<quote>[\"'])(?P<text>[^\"']*)(?P=quote)|(?P<bare>-?[\w.]+)))"
)


def with_option_names(message: str) -> str:
    """Return a message with every `argument=value` written as the option that sets it."""

    def option(found: re.Match[str]) -> str:
        if found["flag"]:
            return _FLAGS[found["flag"]]
        value = found["bare"] if found["quote"] is None else found["text"]
        return f"{_OPTIONS[found['name']]} {value}" if value else f"{_OPTIONS[found['name']]} ''"

    return _NAMED.sub(option, message)
