"""From texts to token ids and back, with the model's own `tokenizer.json`.

Thread-safe: nothing is set on the shared tokenizer after loading (truncation is done here, on ids), so two threads
never meet its "Already borrowed". Knows nothing about batches, padding or vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from trivec.checkpoint.text_cut import Truncation
from trivec.checkpoint.tokenizer_file import is_panic, load_tokenizer
from trivec.errors import CheckpointError

if TYPE_CHECKING:
    from tokenizers import Encoding

TokenIds = npt.NDArray[np.int32]
_CHARACTERS_PER_TOKEN = 8  # of most texts; where they are more, the start that is tokenized grows
_WORD_START = "\u2581"  # SentencePiece's mark for "a word begins here"


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of some texts.

    Attributes:
        token_ids: One int32 array a text, `<s>` first and `</s>` last.
        cut: Indices of the texts that were cut to the maximal length.
    """

    token_ids: list[TokenIds]
    cut: frozenset[int]


class M3Tokenizer:
    """The XLM-RoBERTa tokenizer of one checkpoint.

    Attributes:
        vocabulary_size: Number of pieces, special tokens included: the width of a sparse vector.
        unused_ids: Ids that carry no lexical weight: `<s>`, `</s>`, `<pad>`, `<unk>`.
    """

    def __init__(self, path: Path) -> None:
        """Load a `tokenizer.json`.

        Raises:
            CheckpointError: The file is unreadable, or its texts do not come out as `<s> ... </s>`.
        """
        self._tokenizer = load_tokenizer(path)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if type(self._tokenizer.model).__name__ != "Unigram":
            raise CheckpointError(
                f"{path} is no XLM-RoBERTa tokenizer: its model is {type(self._tokenizer.model).__name__}, not Unigram"
            )
        found = {name: self._tokenizer.token_to_id(name) for name in ("<s>", "</s>", "<pad>", "<unk>")}
        ids = {name: token_id for name, token_id in found.items() if token_id is not None}
        if len(ids) < len(found) or self._tokenizer.encode("").ids != [ids["<s>"], ids["</s>"]]:
            raise CheckpointError(
                f"{path} is no XLM-RoBERTa tokenizer: an empty text must give <s> </s>, and <pad> and <unk> must exist"
            )
        self.vocabulary_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.unused_ids = tuple(ids.values())
        self._path = path
        self._truncation = Truncation(self._tokenizer)
        self._end = ids["</s>"]
        self._pad = ids["<pad>"]

    def check_fits(self, rows: int, pad_token_id: int) -> None:
        """Make sure that every id has a row in a word-embedding table of `rows` rows, and that both mean one `<pad>`.

        Raises:
            CheckpointError: The tokenizer belongs to another model.
        """
        if self._pad != pad_token_id:
            raise CheckpointError(
                f"{self._path} has <pad> at {self._pad}, config.json says pad_token_id {pad_token_id}: "
                "they belong to different models"
            )
        if self.vocabulary_size > rows:
            raise CheckpointError(
                f"{self._path} has {self.vocabulary_size} pieces, the word-embedding table {rows} rows: "
                "the tokenizer belongs to another model"
            )

    def encode_batch(self, texts: Sequence[str], max_length: int) -> TokenizedTexts:
        """Tokenize texts.

        Args:
            texts: Any strings; lone surrogates, which no encoding can hold, count as U+FFFD.
            max_length: Most tokens of a text, `<s>` and `</s>` included; a longer one keeps its start, then `</s>`.
        """
        # More tokens than are read are in the first `limit` characters of most texts.
        limit = _CHARACTERS_PER_TOKEN * max_length
        texts = [text if len(text) <= 2 * limit else without_lone_surrogates(text) for text in texts]
        starts = [text if len(text) <= 2 * limit else self._truncation.start_of(text, limit) for text in texts]
        token_ids, cut = [], set()
        for i, (text, start, encoding) in enumerate(zip(texts, starts, self._encode_all(starts), strict=True)):
            ids = np.array(encoding.ids, dtype=np.int32)
            while len(start) < len(text) and len(ids) <= max_length + 1:  # not enough: take more of the text
                start = self._truncation.start_of(text, 4 * len(start))  # noqa: PLW2901
                ids = np.array(self._encode_all([start])[0].ids, dtype=np.int32)
            if len(ids) > max_length:
                cut.add(i)
                ids = ids[:max_length].copy()
                ids[-1] = self._end
            token_ids.append(ids)
        return TokenizedTexts(token_ids, frozenset(cut))

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Character offsets (start, end) of each piece of `text`, special tokens left out."""
        return list(self._encode_without_special(text).offsets)

    def tokens_with_spans(self, text: str) -> list[tuple[int, tuple[int, int]]]:
        """Id and character offsets of each piece of `text`, special tokens left out.

        A piece that is only the mark of a word's beginning covers no characters: its offsets are equal.
        """
        encoding = self._encode_without_special(text)
        return [
            (token_id, (start, start if piece == _WORD_START else end))
            for token_id, piece, (start, end) in zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)
        ]

    def _encode_all(self, texts: list[str]) -> list[Encoding]:
        with self._failures_told():
            try:
                return list(self._tokenizer.encode_batch_fast(texts))
            except (TypeError, UnicodeError):
                return list(self._tokenizer.encode_batch_fast([without_lone_surrogates(text) for text in texts]))

    def _encode_without_special(self, text: str) -> Encoding:
        with self._failures_told():
            return self._tokenizer.encode(without_lone_surrogates(text), add_special_tokens=False)

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        """Turn what the Rust side raises, plain Exception or a panic, into an error that names the file."""
        try:
            yield
        except BaseException as error:
            if type(error) is not Exception and not is_panic(error):
                raise
            raise CheckpointError(
                f"{self._path} fails on a text ({error!s:.300}): it is damaged, download it again"
            ) from error

    def token_text(self, token_id: int) -> str:
        """The piece of an id, for people to read: without the mark of a word's beginning.

        Raises:
            ValueError: There is no such id.
        """
        piece = self._tokenizer.id_to_token(token_id)
        if piece is None:
            raise ValueError(f"token id {token_id} is not in the vocabulary of {self.vocabulary_size} pieces")
        return piece.replace(_WORD_START, "") or _WORD_START

    # What follows has the names and results of Hugging Face's tokenizers, as far as tutorials call them.

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int | None = None,
        return_offsets_mapping: bool = False,
    ) -> dict[str, list[Any]]:
        """Tokenize a text, or several.

        Args:
            text: One text or several.
            add_special_tokens: Whether `<s>` and `</s>` are put around.
            truncation: Whether longer texts are cut to `max_length` tokens.
            max_length: See `truncation`.
            return_offsets_mapping: Whether "offset_mapping" is given: (start, end) of each token in its text, in
                characters; (0, 0) for special tokens.

        Returns:
            "input_ids", "attention_mask" and perhaps "offset_mapping": a list for a text, for several texts lists of
            such.
        """
        texts = [text] if isinstance(text, str) else list(text)
        encodings = [
            self._tokenizer.encode(without_lone_surrogates(one), add_special_tokens=add_special_tokens) for one in texts
        ]
        found: dict[str, list[Any]] = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
        }
        if return_offsets_mapping:
            found["offset_mapping"] = [encoding.offsets for encoding in encodings]
        if truncation and max_length is not None:
            ends = 1 if add_special_tokens else 0
            for of_texts in found.values():
                of_texts[:] = [
                    one if len(one) <= max_length else one[: max_length - ends] + one[len(one) - ends :]
                    for one in of_texts
                ]
        return {name: of_texts[0] for name, of_texts in found.items()} if isinstance(text, str) else found

    def encode_plus(self, text: str, **options: Any) -> dict[str, list[Any]]:
        """Tokenize one text; options as in a call."""
        return self(text, **options)

    def encode(self, text: str, **options: Any) -> list[int]:
        """Return the token ids of one text; options as in a call."""
        return self(text, **options)["input_ids"]

    def decode(self, token_ids: int | Sequence[int], skip_special_tokens: bool = False) -> str:
        """Return the text that token ids stand for."""
        ids = [int(i) for i in ([token_ids] if isinstance(token_ids, (int, np.integer)) else token_ids)]
        if self._tokenizer.decoder is not None:
            return str(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))
        kept = [i for i in ids if not (skip_special_tokens and i in self.unused_ids)]
        return "".join(self._tokenizer.id_to_token(i) or "" for i in kept).replace(_WORD_START, " ").strip()

    def tokenize(self, text: str) -> list[str]:
        """Return the pieces of a text, the mark of a word's beginning included, without special tokens."""
        return list(self._tokenizer.encode(without_lone_surrogates(text), add_special_tokens=False).tokens)

    @overload
    def convert_ids_to_tokens(self, ids: int) -> str | None: ...

    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]: ...

    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> str | list[str | None] | None:
        """Return the piece of an id, or those of several; None for an id that is not in the vocabulary."""
        if isinstance(ids, (int, np.integer)):
            piece: str | None = self._tokenizer.id_to_token(int(ids))
            return piece
        return [self._tokenizer.id_to_token(int(i)) for i in ids]

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> int | list[int]:
        """Return the id of a piece, or those of several; that of `<unk>` for what is no piece."""
        if isinstance(tokens, str):
            return self._id_of(tokens)
        return [self._id_of(token) for token in tokens]

    def _id_of(self, token: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        return self.unused_ids[-1] if token_id is None else int(token_id)  # the last of them is <unk>

    @property
    def vocab_size(self) -> int:
        """The same as `vocabulary_size`."""
        return self.vocabulary_size

    def __len__(self) -> int:
        return int(self.vocabulary_size)

    def __repr__(self) -> str:
        return f"<M3Tokenizer of {self.vocabulary_size:,} pieces: {self._path}>"


def without_lone_surrogates(text: str) -> str:
    """Return a text with U+FFFD for each lone surrogate, which no encoding can hold; offsets stay what they are."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
    return text
