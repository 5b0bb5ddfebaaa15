"""The modes: how each of them turns a data set into a ranking of its documents for every query.

- `dense` and `sparse` search the whole corpus by one score.
- `multi-vector`, `dense+sparse` and `all` re-rank the union of those two result lists: by MaxSim, by the weighted mean
  of dense and sparse score, and by the weighted mean of all three (M3 paper, arXiv 2402.03216, section 3.2).
- `cross-encoder` re-ranks that union by another model, which reads query and document together.
- `bm25-words` and `bm25-pieces` are the yardsticks.

Equal scores are ordered by falling document id, as trec_eval does, so that it agrees on the files that `Run.write`
writes.
A document whose id is the query's own is never found (BEIR's rule for corpora that contain their queries).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trivec.evaluation import through_milvus
from trivec.evaluation.bm25 import bm25_search, words
from trivec.evaluation.cross_encoder import CrossEncoder
from trivec.evaluation.datasets import RetrievalDataset
from trivec.evaluation.encodings import Encoder
from trivec.model import M3Model
from trivec.search.exact import EncodedBlock, ExactResults, Float32, Rows, ScoredPairs, exact_search, pair_scores, union
from trivec.search.fusion import FusionWeights
from trivec.search.modes import EVALUATED_MODES as MODES
from trivec.search.modes import EvaluatedMode, Mode
from trivec.vectors.scoring import weighted_mean

if TYPE_CHECKING:
    from trivec.milvus import M3Collection

DEFAULT_CANDIDATES = 200

CROSS_ENCODER = EvaluatedMode.cross_encoder.value
_NEEDS_SPARSE = {"sparse", "dense+sparse", "all"}
_NEEDS_TOKEN_VECTORS = {"multi-vector", "all"}


def available_modes(model: M3Model, cross_encoder: bool = False) -> tuple[str, ...]:
    """The modes that a model's heads allow, and a cross-encoder if there is one.

    Where there is no sparse head, multi-vector and cross-encoder re-rank dense results alone.
    """
    return tuple(
        mode
        for mode in MODES
        if (cross_encoder or mode != CROSS_ENCODER)
        and (model.has_sparse or mode not in _NEEDS_SPARSE)
        and (model.has_colbert or mode not in _NEEDS_TOKEN_VECTORS)
    )


@dataclass(frozen=True)
class Run:
    """What one mode found in one data set.

    Attributes:
        query_ids: Query of each row number.
        document_ids: Document of each row number.
        pairs: Sorted by query, then from best to worst.
    """

    query_ids: Sequence[str]
    document_ids: Sequence[str]
    pairs: ScoredPairs

    def rankings(self) -> dict[str, list[str]]:
        """Document ids by query id, best first."""
        return {
            self.query_ids[number]: [self.document_ids[row] for row in documents]
            for number, (documents, _) in enumerate(self.pairs.by_query(len(self.query_ids)))
        }

    def of_query(self, number: int) -> list[tuple[str, float]]:
        """Document ids with their scores for the query of one row number, best first."""
        start, end = np.searchsorted(self.pairs.query, [number, number + 1])
        rows, scores = self.pairs.document[start:end].tolist(), self.pairs.score[start:end].tolist()
        return [(self.document_ids[row], score) for row, score in zip(rows, scores, strict=True)]

    def write(self, path: Path, tag: str) -> None:
        """Write a TREC run file: query, Q0, document, rank from 1, score, tag; blanks in ids and tag become "_"."""
        with path.open("w", encoding="utf-8") as file:
            for number, (documents, scores) in enumerate(self.pairs.by_query(len(self.query_ids))):
                for rank, (row, score) in enumerate(zip(documents, scores, strict=True), start=1):
                    fields = (self.query_ids[number], "Q0", self.document_ids[row], rank, f"{score:.9g}", tag)
                    file.write(" ".join("_".join(str(field).split()) for field in fields) + "\n")


@dataclass(frozen=True)
class CandidateScores:
    """The three scores of the candidates of one data set: aligned arrays of length p.

    Attributes:
        query: Row numbers of the queries.
        document: Row numbers of the documents.
        dense: Inner products of the dense vectors.
        sparse: Inner products of the lexical weights.
        multi_vector: MaxSim; None where no mode needs it.
    """

    query: Rows
    document: Rows
    dense: Float32
    sparse: Float32
    multi_vector: Float32 | None

    def fused(self, weights: FusionWeights) -> ScoredPairs:
        """Every candidate with the weighted mean of its scores, unsorted."""
        return ScoredPairs(
            self.query, self.document, weighted_mean((self.dense, self.sparse, self.multi_vector), weights)
        )


class DatasetSearch:
    """Every mode's search over one data set; what several modes share is computed once.

    Args:
        encoder: The model and the settings.
        dataset: What to search.
        candidates: Results of the dense and of the sparse search, of which the other modes re-rank the union; also the
            length of every ranking.
        cross_encoder: Scores pairs for the mode `cross-encoder`; None: that mode is not available.
    """

    def __init__(
        self,
        encoder: Encoder,
        dataset: RetrievalDataset,
        candidates: int = DEFAULT_CANDIDATES,
        cross_encoder: CrossEncoder | None = None,
    ) -> None:
        self.dataset = dataset
        self.query_ids = list(dataset.queries)
        self.document_ids = sorted(dataset.documents, reverse=True)
        self._encoder = encoder
        self._candidates = candidates
        self._cross_encoder = cross_encoder
        self._query_texts = [dataset.queries[query] for query in self.query_ids]
        self._document_texts = [dataset.documents[document] for document in self.document_ids]
        row_of = {document: row for row, document in enumerate(self.document_ids)}
        self._excluded: Rows = np.array([row_of.get(query, -1) for query in self.query_ids], dtype=np.intp)

    def run(self, mode: str, weights: FusionWeights) -> Run:
        """Rank the documents for every query.

        Args:
            mode: One of `MODES`.
            weights: Of dense, sparse and multi-vector score; `dense+sparse` uses the first two, which are not both 0,
                `all` all three.

        Raises:
            ValueError: No such mode.
            MissingHeadError: The model lacks a head that the mode needs.
            MissingExtraError: `bm25s` is needed and not installed.
        """
        return self.as_run(self._search(mode, weights))

    def run_through(self, collection: M3Collection, mode: Mode, weights: FusionWeights) -> Run:
        """Rank the documents as a collection that holds them by row number finds them: by "multi" or "all"."""
        return self.as_run(
            through_milvus.search(collection, mode, self._query_texts, self._excluded, self._candidates, weights)
        )

    @property
    def document_texts(self) -> Sequence[str]:
        """The documents' texts by row number."""
        return self._document_texts

    def as_run(self, pairs: ScoredPairs) -> Run:
        """Cut scored pairs to the best of each query and give them their ids."""
        return Run(self.query_ids, self.document_ids, pairs.top(self._candidates))

    @cached_property
    def candidate_scores(self) -> CandidateScores:
        """Dense, sparse and MaxSim score of every candidate: what `all` and the search for fusion weights rank by."""
        scores = self._lexical_and_dense
        label = f"{self.dataset.name}: token vectors"
        multi_vector = self._encoder.multi_vector_scores(
            self._query_texts, self._document_texts, scores.query, scores.document, label
        )
        return CandidateScores(scores.query, scores.document, scores.dense, scores.sparse, multi_vector)

    def _search(self, mode: str, weights: FusionWeights) -> ScoredPairs:
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} is not one of {', '.join(MODES)}")
        if mode.startswith("bm25"):
            tokens = words if mode == "bm25-words" else self._pieces
            documents, queries = tokens(self._document_texts), tokens(self._query_texts)
            return bm25_search(documents, queries, self._candidates, self._excluded)
        self._encoder.model.require_heads(sparse=mode in _NEEDS_SPARSE, colbert=mode in _NEEDS_TOKEN_VECTORS)
        if mode in ("dense", "sparse"):
            found: ScoredPairs = getattr(self._found, mode)
            return found
        if mode == "dense+sparse":
            return self._lexical_and_dense.fused((weights[0], weights[1], 0.0))
        if mode == CROSS_ENCODER:
            return self._by_cross_encoder
        if mode == "all":
            return self.candidate_scores.fused(weights)
        candidates = self.candidate_scores
        assert candidates.multi_vector is not None
        return ScoredPairs(candidates.query, candidates.document, candidates.multi_vector)

    @cached_property
    def _queries(self) -> EncodedBlock:
        return self._encoder.whole(self._query_texts, f"{self.dataset.name}: queries")

    @cached_property
    def _found(self) -> ExactResults:
        blocks = self._encoder.blocks(self._document_texts, f"{self.dataset.name}: documents")
        return exact_search(self._queries, blocks, self._candidates, self._excluded)

    @cached_property
    def _lexical_and_dense(self) -> CandidateScores:
        query, document = union(self._found)
        blocks = self._encoder.blocks(self._document_texts, f"{self.dataset.name}: documents")
        dense, sparse = pair_scores(self._queries, blocks, query, document)
        return CandidateScores(query, document, dense, sparse, None)

    @cached_property
    def _by_cross_encoder(self) -> ScoredPairs:
        if self._cross_encoder is None:
            raise ValueError(f"mode={CROSS_ENCODER!r} needs a reranker")
        query, document = union(self._found)
        label = f"{self.dataset.name}: cross-encoder"
        scores = self._cross_encoder.scores(self._query_texts, self._document_texts, query, document, label)
        return ScoredPairs(query, document, scores)

    def _pieces(self, texts: Sequence[str]) -> list[list[str]]:
        tokenizer = self._encoder.model.tokenizer
        special = set(tokenizer.unused_ids)
        whole_texts = tokenizer.encode_batch(texts, max_length=2**31)
        return [[str(piece) for piece in ids.tolist() if piece not in special] for ids in whole_texts.token_ids]
