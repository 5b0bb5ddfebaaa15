"""Bytes of files into text: by their byte order mark, by the encoding that was named, else as UTF-8.

A byte that is wrong must be told with its place, and must not end the reading where the rest of the file is fine. So
lines are decoded with Python's "surrogateescape", which keeps such a byte as a lone surrogate for the caller to find
(`wrong_byte`). Knows nothing about what the text means.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, cast

from trivec.documents.document import DocumentError

# UTF-32 before UTF-16, whose little-endian mark is the beginning of the former's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LONGEST_MARK = 4

_escaped_byte = re.compile("[\udc80-\udcff]")

NUL = "it holds NUL characters, as UTF-16 without a byte order mark does: name the encoding, or convert it to UTF-8"


def checked_encoding(name: str) -> str:
    """Return the name of an encoding of text as Python spells it.

    Raises:
        DocumentError: There is no such encoding.
    """
    try:
        found = codecs.lookup(name)
    except LookupError:
        found = None
    if found is None or not getattr(found, "_is_text_encoding", True):
        raise DocumentError(f"{name!r} is no encoding of text that Python knows: try utf-8, cp1252 or utf-16")
    return found.name


def decode(data: bytes, encoding: str | None) -> str:
    """Return all of a file as text.

    Args:
        data: The file's bytes.
        encoding: How it is encoded unless it begins with a byte order mark; None: UTF-8.

    Raises:
        UnicodeDecodeError: A byte is wrong.
    """
    mark, encoding = _mark(data[:_LONGEST_MARK], encoding)
    return data[len(mark) :].decode(encoding)


def decoded_lines(stream: BinaryIO, encoding: str | None) -> Iterator[str]:
    """Yield a file's lines with their line ends, wrong bytes kept as lone surrogates (see `wrong_byte`).

    Args:
        stream: The file, opened for reading bytes; a `BufferedReader`.
        encoding: As in `decode`.

    Raises:
        UnicodeDecodeError: A byte is wrong in an encoding in which what follows cannot be told from it, as in UTF-16.
    """
    buffered = cast("io.BufferedReader", stream)
    mark, encoding = _mark(buffered.peek(_LONGEST_MARK)[:_LONGEST_MARK], encoding)
    stream.read(len(mark))
    if "\n".encode(encoding) == b"\n":
        for line in stream:
            yield line.decode(encoding, "surrogateescape")
    else:
        yield from io.TextIOWrapper(stream, encoding, newline="\n")


def can_be_cut(stream: BinaryIO, encoding: str | None) -> bool:
    """Whether a file can be cut behind any byte that is a line end, and each part be decoded as `encoding` alone says.

    Args:
        stream: The file, at its beginning; a `BufferedReader`. It is left behind its byte order mark.
        encoding: As in `decode`.
    """
    head = cast("io.BufferedReader", stream).peek(_LONGEST_MARK)[:_LONGEST_MARK]
    mark, found = _mark(head, encoding)
    stream.read(len(mark))
    return "\n".encode(found) == b"\n" and found == (encoding or "utf-8")


def wrong_byte(text: str, encoding: str | None) -> str | None:
    """Say which byte of a decoded line was wrong; None if none was."""
    found = _escaped_byte.search(text)
    return None if found is None else _not_in(ord(found[0]) - 0xDC00, encoding)


def decoding_error(error: UnicodeDecodeError) -> tuple[int | None, str]:
    """Return the line of a file that cannot be decoded (None: not known) and what is wrong with it."""
    one_byte_a_letter = not error.encoding.replace("_", "-").startswith(("utf-16", "utf-32"))
    line = error.object[: error.start].count(b"\n") + 1 if one_byte_a_letter else None
    return line, _not_in(error.object[error.start], error.encoding)


def _not_in(byte: int, encoding: str | None) -> str:
    name = (encoding or "utf-8").upper()
    return f"byte 0x{byte:02x} is not {name}: name the file's encoding, or convert it to UTF-8"


def _mark(head: bytes, encoding: str | None) -> tuple[bytes, str]:
    for mark, name in _MARKS:
        if head.startswith(mark):
            return mark, name
    return b"", encoding or "utf-8"
