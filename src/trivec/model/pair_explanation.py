"""Why a text matches a query by a model's vectors: `M3Model.explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trivec.model.m3_model import encode_without_warning
from trivec.search.explanation import Explanation, Side, explained
from trivec.vectors.embeddings import M3Embedding, asked_for
from trivec.vectors.scoring import colbert_score, dense_score, in_five_modes, lexical_score, pair_scores
from trivec.vectors.sparse import weights_by_id

if TYPE_CHECKING:
    from trivec.model.m3_model import M3Model


def explanation(model: M3Model, query: str, text: str, max_length: int | None) -> Explanation:
    """Return what `M3Model.explain` does, which has the meaning of the arguments and the errors."""
    heads = {"return_sparse": model.has_sparse, "return_colbert_vecs": model.has_colbert}
    embeddings = encode_without_warning(model, [query, text], max_length=max_length, **heads, show_progress=False)
    most = model.checked_length(max_length) - 2

    def side(one: str, own: M3Embedding) -> Side:
        weights = {} if own.sparse is None else weights_by_id(own.sparse)
        return Side(one, model.tokenizer.tokens_with_spans(one), weights, own.colbert_vecs, most)

    of_query, of_text = embeddings
    scores = _scores(of_query, of_text, model.fusion_weights)
    return explained(side(query, of_query), side(text, of_text), scores, bool(embeddings.cut))


def _scores(query: M3Embedding, text: M3Embedding, weights: tuple[float, float, float]) -> dict[str, float]:
    """The scores of a pair that the model has heads for."""
    if query.colbert_vecs is not None and query.sparse is not None:
        modes = in_five_modes(pair_scores([query], [text]), weights)
        return {mode: values[0] for mode, values in modes.items()}
    found = {"dense": dense_score(asked_for(query.dense), asked_for(text.dense))}
    if query.sparse is not None:
        found["sparse"] = lexical_score(query.sparse, asked_for(text.sparse))
    if query.colbert_vecs is not None:
        found["colbert"] = colbert_score(query.colbert_vecs, asked_for(text.colbert_vecs))
    return found
