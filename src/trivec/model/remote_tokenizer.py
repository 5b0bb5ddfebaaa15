"""The tokenizer of a model that a server has: what chunking, matched words and evaluation ask of it, by HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from trivec.checkpoint.tokenizer import M3Tokenizer, TokenizedTexts, without_lone_surrogates
from trivec.errors import ServerError, TrivecError
from trivec.model.http_connection import Connection

# Texts are sent together up to so many characters: an answer has some 60 bytes a token.
_CHARACTERS = 200_000
_WORD_START = "\u2581"


class RemoteTokenizer(M3Tokenizer):
    """As `M3Tokenizer`, whose methods are the same; what asks for the names of pieces, a server does not tell.

    Attributes:
        vocabulary_size: As `M3Tokenizer`'s.
    """

    def __init__(self, connection: Connection, url: str, vocabulary_size: int, most_texts: int) -> None:
        """Prepare; nothing is asked yet.

        Args:
            connection: To the server.
            url: Of the server, for messages.
            vocabulary_size: Of the model.
            most_texts: Texts of a request.
        """
        self._connection, self._url, self._most_texts = connection, url, most_texts
        self.vocabulary_size = vocabulary_size
        self._special: tuple[int, ...] = ()
        self._texts_of_ids: dict[int, str] = {}

    @property
    def unused_ids(self) -> tuple[int, ...]:  # type: ignore[override]  # an attribute there, which nobody sets
        """Ids that carry no lexical weight: `<s>` and `</s>`; of the other two the server says nothing."""
        if not self._special:
            self._special = tuple(token["id"] for token in self._tokens("a", special=True) if token["special"])
        return self._special

    def encode_batch(self, texts: Sequence[str], max_length: int) -> TokenizedTexts:
        """As `M3Tokenizer.encode_batch`."""
        token_ids, cut = [], set()
        for i, tokens in enumerate(self._all_tokens(texts, special=True)):
            ids = np.array([token["id"] for token in tokens], np.int32)
            if len(ids) > max_length:
                cut.add(i)
                ids = np.append(ids[: max_length - 1], ids[-1:])
            token_ids.append(ids)
        return TokenizedTexts(token_ids, frozenset(cut))

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """As `M3Tokenizer.token_spans`."""
        return [(token["start"], token["stop"]) for token in self._tokens(text)]

    def tokens_with_spans(self, text: str) -> list[tuple[int, tuple[int, int]]]:
        """As `M3Tokenizer.tokens_with_spans`."""
        tokens = self._tokens(text)
        following = [token["start"] for token in tokens[1:]]
        found = []
        for token, next_start in zip(tokens, [*following, None], strict=False):
            # The mark of a word's beginning, where it is a piece, has the first letter of the word.
            is_mark = token["start"] == next_start and self.token_text(token["id"]) == _WORD_START
            found.append((token["id"], (token["start"], token["start"] if is_mark else token["stop"])))
        return found

    def token_text(self, token_id: int) -> str:
        """As `M3Tokenizer.token_text`."""
        if not 0 <= token_id < self.vocabulary_size:
            raise ValueError(f"token id {token_id} is not in the vocabulary of {self.vocabulary_size} pieces")
        self.learn_texts([token_id])
        return self._texts_of_ids[token_id] or _WORD_START

    def learn_texts(self, token_ids: Iterable[int]) -> None:
        """Ask for what `token_text` will be asked, all at once."""
        new = [token_id for token_id in token_ids if token_id not in self._texts_of_ids]
        if new:
            self._texts_of_ids |= zip(new, self._decoded([[token_id] for token_id in new], False), strict=True)

    def decode(self, token_ids: int | Sequence[int], skip_special_tokens: bool = False) -> str:
        """As `M3Tokenizer.decode`."""
        ids = [int(i) for i in ([token_ids] if isinstance(token_ids, (int, np.integer)) else token_ids)]
        return self._decoded([ids], skip_special_tokens)[0]

    def _decoded(self, lists: list[list[int]], skip_special_tokens: bool) -> list[str]:
        body = json.dumps({"ids": lists, "skip_special_tokens": skip_special_tokens}).encode()
        texts: list[str] = self._connection.ask("POST", "/decode", body)
        if not isinstance(texts, list) or len(texts) != len(lists):
            raise ServerError(f"{self._url} answers POST /decode with other than {len(lists)} texts")
        return texts

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int | None = None,
        return_offsets_mapping: bool = False,
    ) -> dict[str, list[Any]]:
        """As `M3Tokenizer.__call__`."""
        found: dict[str, list[Any]] = {"input_ids": [], "attention_mask": []}
        if return_offsets_mapping:
            found["offset_mapping"] = []
        for tokens in self._all_tokens([text] if isinstance(text, str) else text, special=add_special_tokens):
            kept = tokens
            if truncation and max_length is not None and len(tokens) > max_length:
                ends = 1 if add_special_tokens else 0
                kept = tokens[: max_length - ends] + tokens[len(tokens) - ends :]
            found["input_ids"].append([token["id"] for token in kept])
            found["attention_mask"].append([1] * len(kept))
            if return_offsets_mapping:
                found["offset_mapping"].append([(token["start"] or 0, token["stop"] or 0) for token in kept])
        return {name: of_texts[0] for name, of_texts in found.items()} if isinstance(text, str) else found

    def tokenize(self, text: str) -> NoReturn:
        """Refuse: the server does not tell the pieces' names."""
        raise TrivecError(f"{self._url} does not tell how pieces are called: use encode, decode and token_spans")

    convert_ids_to_tokens = convert_tokens_to_ids = tokenize  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<RemoteTokenizer of {self.vocabulary_size:,} pieces: {self._url}>"

    def _tokens(self, text: str, special: bool = False) -> list[dict[str, Any]]:
        return next(self._all_tokens([text], special))

    def _all_tokens(self, texts: Sequence[str], special: bool) -> Iterator[list[dict[str, Any]]]:
        group: list[str] = []
        characters = 0
        for text in texts:
            if group and (len(group) == self._most_texts or characters + len(text) > _CHARACTERS):
                yield from self._asked(group, special)
                group, characters = [], 0
            group.append(without_lone_surrogates(text))
            characters += len(text)
        if group:
            yield from self._asked(group, special)

    def _asked(self, texts: list[str], special: bool) -> list[list[dict[str, Any]]]:
        body = json.dumps({"inputs": texts, "add_special_tokens": special}, ensure_ascii=False).encode()
        answer: list[list[dict[str, Any]]] = self._connection.ask("POST", "/tokenize", body)
        if not isinstance(answer, list) or len(answer) != len(texts):
            raise ServerError(f"{self._url} answers POST /tokenize with other than the tokens of {len(texts)} texts")
        return answer
