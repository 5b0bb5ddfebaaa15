"""The lexical yardstick: BM25 by the bm25s library, over words or over the model's own pieces.

bm25s's defaults: Lucene's variant, k1 = 1.5, b = 0.75. Words are lower-cased and split at spaces and punctuation, each
Chinese character being a word; languages that write without spaces otherwise (Thai, Japanese kana) are served badly by
that, which is what the run over pieces is for. No stemming, no stop words. Documents that share no token with a query
are not found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trivec.search.exact import Rows, ScoredPairs
from trivec.support.extras import require

Tokens = list[list[str]]


def words(texts: Sequence[str]) -> Tokens:
    """Split texts into lower-cased words, without punctuation.

    Example:
        >>> words(["Wie heißt du?", "深圳 rocks"])
        [['wie', 'heißt', 'du'], ['深', '圳', 'rocks']]
    """
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=True
    )
    splitter = pre_tokenizers.BertPreTokenizer()
    return [
        [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)) if any(map(str.isalnum, word))]
        for text in texts
    ]


def bm25_search(documents: Tokens, queries: Tokens, k: int, excluded: Rows) -> ScoredPairs:
    """Find the k best documents of every query.

    Args:
        documents: Tokens of each document.
        queries: Tokens of each query.
        k: Results a query, fewer where fewer documents share a token with it.
        excluded: (queries,) document that a query must not find, or -1.

    Raises:
        MissingExtraError: `bm25s` is not installed.
    """
    bm25s = require("bm25s")
    if not any(documents):
        return ScoredPairs.join([])
    index = bm25s.BM25()
    index.index(documents, show_progress=False)
    found = []
    for number, tokens in enumerate(queries):
        if not tokens:
            continue
        scores = index.get_scores(tokens)
        if excluded[number] >= 0:
            scores[excluded[number]] = 0
        positive = np.flatnonzero(scores > 0)
        if len(positive) > k:
            positive = positive[scores[positive] >= np.partition(scores[positive], -k)[-k]]
        best = positive[np.argsort(-scores[positive], kind="stable")[:k]]
        found.append(ScoredPairs(np.full(len(best), number), best, scores[best].astype(np.float32)))
    return ScoredPairs.join(found)
