"""Cutting long texts into chunks of a given number of tokens, overlapping, each an exact piece of the original.

Only character offsets are taken from the tokenizer: a chunk is `text[start:end]`, never decoded tokens. This module
knows nothing about files, vectors or Milvus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from trivec.documents import Document, MetadataError

# A character may be several tokens (one ligature is a phrase of eighteen letters); smaller chunks would only repeat it.
_FEWEST_TOKENS = 8

# The metadata that says where in its document a chunk lies.
_PLACE = ("document", "chunk", "start", "end")

# Tokenizing gives an offset pair per token, a hundred bytes each; a book is therefore tokenized in stretches, cut where
# there is a space.
_STRETCH_CHARACTERS = 100_000


class TokenSpans(Protocol):
    """What chunking needs of a tokenizer: `M3Tokenizer` has it."""

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the character offsets (start, end) of each token of `text`, special tokens left out."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a text: `text[start:end]` of the original, offsets in characters."""

    text: str
    start: int
    end: int


def chunk_text(
    text: str, tokenizer: TokenSpans, *, max_tokens: int = 512, overlap: int | None = None, max_bytes: int = 65_535
) -> Iterator[Chunk]:
    """Cut a text into overlapping chunks.

    A chunk holds at most `max_tokens` of the text's tokens and at most `max_bytes` bytes of UTF-8 and shares about
    `overlap` tokens with the one before. Tokenized by itself it may have a token more, as a piece that continued a word
    then begins one. Cuts fall before a word where a space lies in the last quarter of the chunk, otherwise between
    tokens, as in languages written without spaces. A text that fits is one chunk, unchanged; a text without tokens is
    one chunk too, so that no document is lost.

    Args:
        text: The text.
        tokenizer: Gives the tokens' character offsets.
        max_tokens: The longest chunk, in tokens, special tokens not counted.
        overlap: How many tokens of a chunk the next one repeats; less than half of `max_tokens`. None: 64, or an eighth
            of `max_tokens` if that is less.
        max_bytes: The longest chunk in bytes of UTF-8; the default is what a Milvus VARCHAR holds.

    Yields:
        The chunks in order; together they cover every token of the text.

    Raises:
        ValueError: `max_tokens` is below 8, or `overlap` is negative or not below half of `max_tokens`.
    """
    if max_tokens < _FEWEST_TOKENS:
        raise ValueError(f"max_tokens is {max_tokens}: a chunk must hold at least {_FEWEST_TOKENS}")
    if overlap is None:
        overlap = min(64, max_tokens // 8)
    if not 0 <= overlap <= (max_tokens - 1) // 2:
        raise ValueError(f"overlap is {overlap}: it must be at least 0 and below half of max_tokens ({max_tokens})")
    spans = _spans(text, tokenizer)
    window = list(islice(spans, max_tokens + 1))
    if len(window) <= max_tokens:
        yield from _pieces(text, 0, len(text), max_bytes)
        return
    while len(window) > max_tokens:
        # `window` holds one token more than a chunk, to see whether a word begins after the chunk's last token.
        cut = _word_start(text, window, max_tokens, max_tokens - max_tokens // 4)
        yield from _pieces(text, *_stripped(text, window[0][0], window[cut - 1][1]), max_bytes)
        start = _word_start(text, window, cut - overlap, max(1, cut - overlap * 2)) if overlap else cut
        window = window[start:]
        window += islice(spans, max_tokens + 1 - len(window))
    yield from _pieces(text, *_stripped(text, window[0][0], window[-1][1]), max_bytes)


def chunk_documents(
    documents: Iterable[Document], tokenizer: TokenSpans, *, max_tokens: int = 512, overlap: int | None = None
) -> Iterator[Document]:
    """Cut documents into chunks that are documents themselves.

    The id of a chunk is the document's id, "#" and the chunk's number from 1, so it is the same on every run; its
    metadata is the document's, with "document" (its id), "chunk" (the number), "start" and "end" (character offsets)
    added.

    Args and errors are those of `chunk_text`.

    Raises:
        MetadataError: A document's own metadata has one of these four names.
    """
    for document in documents:
        if taken := [key for key in _PLACE if key in document.metadata]:
            raise MetadataError(
                f"document {document.id[:80]!r}: its metadata cannot be called {taken[0]!r}, as a chunk's place is "
                f"({', '.join(_PLACE)}): rename or leave out that key"
            )
        chunks = chunk_text(document.text, tokenizer, max_tokens=max_tokens, overlap=overlap)
        for number, chunk in enumerate(chunks, start=1):
            place = dict(zip(_PLACE, (document.id, number, chunk.start, chunk.end), strict=True))
            yield Document(chunk_id(document.id, number), chunk.text, {**document.metadata, **place})


def chunk_id(document_id: str, number: int) -> str:
    """Return the id of a document's chunk; chunks are numbered from 1.

    >>> chunk_id("notes/a.md", 2)
    'notes/a.md#2'
    """
    return f"{document_id}#{number}"


def _spans(text: str, tokenizer: TokenSpans) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < len(text):
        end = min(begin + _STRETCH_CHARACTERS, len(text))
        if end < len(text):
            space = max(text.rfind(" ", begin, end), text.rfind("\n", begin, end))
            end = space if space > begin else end
        for start, stop in tokenizer.token_spans(text[begin:end]):
            if stop > start:  # a lone word-boundary mark covers no character
                yield begin + start, begin + stop
        begin = end


def _word_start(text: str, window: list[tuple[int, int]], index: int, lowest: int) -> int:
    """Return the last token index from `index` down to `lowest` at which a word begins; where none does, a character.

    Tokens may share a character: a word-boundary mark of its own has the offsets of the word's first letter.
    """
    apart = [
        candidate
        for candidate in range(index, max(lowest, 1) - 1, -1)
        if window[candidate][0] >= window[candidate - 1][1]
    ]
    for candidate in apart:
        start = window[candidate][0]
        if text[start].isspace() or text[start - 1].isspace():
            return candidate
    return apart[0] if apart else index


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """Move both ends inwards over white space; a tokenizer may count the space before a word as part of its token."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _pieces(text: str, start: int, end: int, max_bytes: int) -> Iterator[Chunk]:
    """Yield `text[start:end]` in pieces of at most `max_bytes` bytes: one, unless it holds very long unknown words."""
    while len(encoded := text[start:end].encode("utf-8", "surrogatepass")) > max_bytes:
        cut = max_bytes
        while encoded[cut] & 0xC0 == 0x80:  # inside a character
            cut -= 1
        stop = start + len(encoded[:cut].decode("utf-8", "surrogatepass"))
        yield Chunk(text[start:stop], start, stop)
        start = stop
    yield Chunk(text[start:end], start, end)
