"""A loaded cross-encoder of BGE-M3's family, which scores pairs of a query and a passage by reading them together.

Joins checkpoint, tokenizer, engine and the encoding path; the engine computes the hidden state of each pair's `<s>`,
`relevance` the score.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from trivec.checkpoint.pair_tokenizer import SPECIAL_TOKENS, PairTokenizer, TextPair
from trivec.encoding import EncodingSettings, encode_windows, tokenize_window, warn_of_truncation
from trivec.engines import Heads
from trivec.errors import CheckpointError
from trivec.model.encoding_arguments import within_limit
from trivec.model.loaded import LoadedModel
from trivec.model.opening import Opened, check_name, open_model
from trivec.model.relevance import RelevanceHead, sigmoid
from trivec.search.hits import RerankResult
from trivec.support.addresses import is_url
from trivec.support.arguments import (
    checked_pair,
    checked_pairs,
    checked_texts,
    refuse_what_is_no_list,
    switch,
    whole_number,
)
from trivec.support.handles import LoadArguments, loaded_again
from trivec.vectors.embeddings import M3Embeddings, asked_for

if TYPE_CHECKING:
    from trivec.checkpoint.tokenizer import TokenizedTexts

DEFAULT_RERANKER = "BAAI/bge-reranker-v2-m3"
# The hidden state of `<s>` as it is.
_HEADS = Heads(dense=True, sparse=False, colbert=False, normalize=False)


@dataclass(frozen=True)
class ScoringSettings:
    """How pairs are scored: how they are encoded and cut, and whether scores lie between 0 and 1."""

    encoding: EncodingSettings
    query_max_length: int | None
    normalize: bool


class M3Reranker(LoadedModel):
    """A cross-encoder, ready to score. Make one with `M3Reranker.load`; safe to use from several threads.

    Example:
        >>> reranker = M3Reranker.load("BAAI/bge-reranker-v2-m3")  # doctest: +SKIP
        >>> reranker.rank("What is a panda?", ["hi", "The panda is a bear."], top_k=1)  # doctest: +SKIP
        [RerankResult(text='The panda is a bear.', score=5.26, index=1)]

    Attributes:
        name: What it was loaded as: a folder, hub id or URL.
        precision: What the encoder computes in, "auto" decided.
        max_length: Most tokens of a pair that are read, unless a call says otherwise.
        tokenizer: The model's tokenizer.
        checkpoint: The opened model folder.
        closed: Whether `close` was called.

    Pickling keeps the name and the arguments of `load`, not the weights: see `support.handles`. Copying gives the
    reranker itself. A forked child loads the weights anew when it first scores.
    """

    _kind = "reranker"

    def __init__(self, opened: Opened) -> None:
        """Load the engine; `opened` has a classification head."""
        classifier = opened.checkpoint.classifier
        assert classifier is not None
        super().__init__(opened)
        self._head = RelevanceHead(classifier)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = DEFAULT_RERANKER,
        *,
        device: str | Sequence[str] | None = None,
        engine: str = "auto",
        precision: str = "auto",
        max_length: int | None = None,
        cache_dir: str | Path | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        num_threads: int | None = None,
        use_cache: bool = True,
        api_key: str | None = None,
    ) -> M3Reranker:
        """Load a cross-encoder from a folder or the Hugging Face hub, or use that of a `trivec serve --reranker`.

        Args:
            name_or_path: A folder in BAAI/bge-reranker-v2-m3's layout, a hub id, or "http://host:8080", where the
                server decides on everything but `api_key`.
            max_length: Most tokens of a pair that are read; the model's own limit if None (8192 for
                BAAI/bge-reranker-v2-m3).
            device: As of `M3Model.load`, like all others.
            engine: See there.
            precision: See there.
            cache_dir: See there.
            revision: See there.
            local_files_only: See there.
            num_threads: See there.
            use_cache: See there.
            api_key: See there.

        Raises:
            CheckpointError: The model cannot be found, a file of it is unusable, or it is no cross-encoder.
            DeviceError: The device or precision is not available here.
            MissingExtraError: A GPU or `engine="torch"` is asked for, and torch is not installed.
            ServerError: The server cannot be reached, refuses the key, or has no cross-encoder.
            ValueError: An argument is out of its range.
        """
        check_name(name_or_path)
        loading = (device, engine, precision, max_length, cache_dir, revision, local_files_only, num_threads, use_cache)
        arguments = LoadArguments(name_or_path, *loading, api_key)
        if is_url(name_or_path):
            from trivec.model.remote_reranker import RemoteReranker

            return RemoteReranker(arguments)
        opened = open_model(arguments)
        here = opened.checkpoint
        if here.classifier is None:
            raise CheckpointError(
                f"{here.folder} has no classification head ('classifier.dense.weight'), so it is no cross-encoder: "
                f"name one such as {DEFAULT_RERANKER}"
            )
        if max_length is not None:
            opened = opened.reading(_pair_length(max_length, here.config.max_length))
        return cls(opened)

    def __reduce__(self) -> tuple[Any, ...]:
        return loaded_again, (M3Reranker.load, self._arguments.for_another_process())

    def __repr__(self) -> str:
        return f"<M3Reranker {self.name!r}: {self._state}>"

    @overload
    def compute_score(  # type: ignore[overload-overlap]  # a pair is a sequence too; it is one pair
        self,
        pairs: tuple[str, str],
        *,
        normalize: bool = ...,
        max_length: int | None = ...,
        query_max_length: int | None = ...,
        max_batch_tokens: int | None = ...,
        show_progress: bool = ...,
    ) -> float: ...
    @overload
    def compute_score(
        self,
        pairs: Iterable[Sequence[str]],
        *,
        normalize: bool = ...,
        max_length: int | None = ...,
        query_max_length: int | None = ...,
        max_batch_tokens: int | None = ...,
        show_progress: bool = ...,
    ) -> list[float]: ...

    def compute_score(
        self,
        pairs: Iterable[Sequence[str]] | tuple[str, str],
        *,
        normalize: bool = False,
        max_length: int | None = None,
        query_max_length: int | None = None,
        max_batch_tokens: int | None = None,
        show_progress: bool = True,
    ) -> list[float] | float:
        """Score (query, passage) pairs: the higher, the better the passage answers the query.

        Pairs are computed in batches of like length, so it costs nothing to give short and long ones together.

        Args:
            pairs: Pairs of texts, or one pair.
            normalize: Give the sigmoid of the score, between 0 and 1, instead of the score itself, a logit.
            max_length: Most tokens of a pair that are read, four special ones included; the reranker's `max_length` if
                None. One `TruncationWarning` counts the pairs that were longer.
            query_max_length: Most tokens of a query that are read; of a pair that is too long, the passage then loses
                its end. None: whichever is longer loses its end, until both are equally long.
            max_batch_tokens: As of `M3Model.encode`.
            show_progress: Show a progress bar once the work has gone on for 5 seconds.

        Returns:
            One score a pair, in order; for one pair given by itself, its score.

        Raises:
            TypeError: A pair is not two strings; its index is named. Or `pairs` is a table, a mapping or a bare str.
            ValueError: A number is out of its range.
        """
        listed, one = checked_pairs(pairs)
        settings = self.scoring_settings(normalize, max_length, query_max_length, max_batch_tokens, show_progress)
        scores, cut = self.scored(listed, settings)
        warn_of_truncation(cut, len(listed), settings.encoding.max_length, what="pairs")
        return scores[0] if one else scores

    def score_stream(
        self,
        pairs: Iterable[Sequence[str]],
        *,
        normalize: bool = False,
        max_length: int | None = None,
        query_max_length: int | None = None,
        max_batch_tokens: int | None = None,
        show_progress: bool = True,
    ) -> Iterator[float]:
        """Score pairs one after another out of an iterable of any length, in flat memory.

        Reads up to two thousand pairs ahead. If the iterable raises, the scores of the pairs before come out first.
        Arguments and errors are those of `compute_score`; the warning that counts the pairs that were cut comes at the
        end.
        """
        settings = self.scoring_settings(normalize, max_length, query_max_length, max_batch_tokens, show_progress)
        refuse_what_is_no_list("pairs", pairs, "(text, text)")
        checked = (TextPair(*checked_pair(i, pair)) for i, pair in enumerate(pairs))
        return self._stream(checked, len(pairs) if isinstance(pairs, Sized) else None, settings)

    def _stream(self, pairs: Iterable[TextPair], total: int | None, settings: ScoringSettings) -> Iterator[float]:
        seen = cut = 0
        with closing(self._windows(pairs, total, settings)) as windows:
            for scores, cut_here in windows:
                yield from scores
                seen += len(scores)
                cut += cut_here
        warn_of_truncation(cut, seen, settings.encoding.max_length, what="pairs")

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        *,
        normalize: bool = False,
        max_length: int | None = None,
        query_max_length: int | None = None,
        max_batch_tokens: int | None = None,
        show_progress: bool = True,
    ) -> list[RerankResult]:
        """Order documents by how well they answer a query, best first; of equal ones the earlier one comes first.

        Args:
            query: The query.
            documents: The documents' texts.
            top_k: How many to return at most; None: all.
            normalize: As of `compute_score`, like all others.
            max_length: See there.
            query_max_length: See there.
            max_batch_tokens: See there.
            show_progress: See there.

        Raises:
            TypeError: The query is no str, or `documents` are no iterable of str.
            ValueError: A number is out of its range.
        """
        if not isinstance(query, str):
            raise TypeError(f"query is {query!r:.60} ({type(query).__name__}), expected a str")
        top_k = None if top_k is None else whole_number("top_k", top_k)
        settings = self.scoring_settings(normalize, max_length, query_max_length, max_batch_tokens, show_progress)
        texts = list(checked_texts(documents, "documents"))
        scores, cut = self.scored([(query, text) for text in texts], settings)
        warn_of_truncation(cut, len(texts), settings.encoding.max_length, what="pairs")
        order = sorted(range(len(texts)), key=lambda i: -scores[i])
        return [RerankResult(texts[i], scores[i], i) for i in order[:top_k]]

    # What follows is for trivec itself.

    def scoring_settings(
        self,
        normalize: bool = False,
        max_length: int | None = None,
        query_max_length: int | None = None,
        max_batch_tokens: int | None = None,
        show_progress: bool = True,
    ) -> ScoringSettings:
        """Return the arguments of `compute_score`, which has their meaning and errors, checked."""
        length = self.max_length if max_length is None else _pair_length(max_length, self._length_limit)
        tokens = None if max_batch_tokens is None else whole_number("max_batch_tokens", max_batch_tokens)
        encoding = EncodingSettings(_HEADS, length, tokens, switch("show_progress", show_progress))
        of_query = None if query_max_length is None else whole_number("query_max_length", query_max_length)
        return ScoringSettings(encoding, of_query, switch("normalize", normalize))

    def relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return scores between 0 and 1 of pairs, without a word on those that are cut."""
        return self.scored(pairs, self.scoring_settings(normalize=True, show_progress=False))[0]

    def scored(self, pairs: Sequence[tuple[str, str]], settings: ScoringSettings) -> tuple[list[float], int]:
        """Return the scores of pairs, and how many of these were cut; whoever calls this decides what to say of it."""
        if self._scheduler is not None:
            tokenized = self.tokenized(pairs, settings)
            hidden = self._scheduler.submit(tokenized, settings.encoding).result()
            return self.scores_of(hidden, settings), len(tokenized.cut)
        windows = list(self._windows((TextPair(*pair) for pair in pairs), len(pairs), settings))
        return [score for scores, _ in windows for score in scores], sum(cut for _, cut in windows)

    def tokenized(self, pairs: Sequence[tuple[str, str]], settings: ScoringSettings) -> TokenizedTexts:
        """Return what the engine reads of pairs."""
        tokenizer = PairTokenizer(self.tokenizer, settings.query_max_length)
        return tokenize_window([TextPair(*pair) for pair in pairs], tokenizer, settings.encoding.max_length)

    def scores_of(self, hidden: M3Embeddings, settings: ScoringSettings) -> list[float]:
        """Return the scores of pairs of which the engine has computed the hidden states."""
        scores = self._head.scores(asked_for(hidden.dense))
        return sigmoid(scores) if settings.normalize else scores

    def _windows(
        self, pairs: Iterable[TextPair], total: int | None, settings: ScoringSettings
    ) -> Generator[tuple[list[float], int], None, None]:
        """Yield the scores of one window of pairs after another, and how many of these were cut."""
        tokenizer = PairTokenizer(self.tokenizer, settings.query_max_length)
        encoding, doing = settings.encoding, ("Scoring", "pairs")
        with closing(encode_windows(pairs, total, tokenizer, self._engine, encoding, doing)) as windows:
            for window in windows:
                yield self.scores_of(window, settings), window.truncated


def _pair_length(max_length: int, limit: int) -> int:
    length = within_limit("max_length", max_length, limit)
    if length < SPECIAL_TOKENS:
        raise ValueError(f"max_length={length} is below the {SPECIAL_TOKENS} special tokens of a pair")
    return length
