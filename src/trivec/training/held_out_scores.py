"""How well a model in training finds the right passages of held-out examples: nDCG@10 and R@1 of each head.

The examples are FlagEmbedding's JSONL; all their passages, right and wrong, form the pool that every query searches.
For a whole evaluation of a finished model there is `trivec eval`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trivec.checkpoint.tokenizer import M3Tokenizer
from trivec.search.fusion import FusionWeights, choose_weights
from trivec.search.ndcg import ndcg_at_10
from trivec.training.losses import HEADS, LossSettings, head_scores
from trivec.training.m3 import Representations, TrainableM3, pad_token_ids
from trivec.training.training_data import JsonlFile

# Queries scored at a time: MaxSim holds (their tokens x a part's tokens) similarities.
QUERY_PART = 64


class HeldOut:
    """Held-out examples, tokenized once.

    Args:
        file: A JSONL file.
        tokenizer: Tokenizer of the model.
        query_length: Most tokens of a query.
        passage_length: Most tokens of a passage.
        part_size: Texts represented at a time.

    Attributes:
        sha256: Of the file, in hexadecimal.

    Raises:
        DataError: The file is not training data.
    """

    def __init__(
        self,
        file: Path,
        tokenizer: M3Tokenizer,
        *,
        query_length: int = 256,
        passage_length: int = 1024,
        part_size: int = 32,
    ) -> None:
        opened = JsonlFile.open(file)
        self.sha256 = opened.sha256
        examples = [opened.read(number) for number in range(len(opened))]
        passages = {text: i for i, text in enumerate(dict.fromkeys(t for e in examples for t in (*e.pos, *e.neg)))}
        self.queries = [
            ids.tolist() for ids in tokenizer.encode_batch([e.query for e in examples], query_length).token_ids
        ]
        self.passages = [ids.tolist() for ids in tokenizer.encode_batch(list(passages), passage_length).token_ids]
        self.right = np.zeros((len(examples), len(passages)), dtype=bool)
        for row, example in enumerate(examples):
            self.right[row, [passages[text] for text in example.pos]] = True
        self.part_size = part_size

    def figures(self, model: TrainableM3, settings: LossSettings) -> dict[str, float]:
        """nDCG@10 and R@1 of each trained head and of their weighted sum.

        Args:
            model: The model.
            settings: Its heads and the weights of their sum.

        Returns:
            Figure to value between 0 and 1; the first, which decides which weights are best, is nDCG@10 of the sum
            (of the head, where there is but one).
        """
        scores = self._scores(model, settings)
        if len(scores) > 1:
            weights = dict(zip(HEADS, settings.sum_weights, strict=True))
            summed = np.sum([weights[head] * score for head, score in scores.items()], axis=0)
            scores = {"sum": summed, **scores}
        figures = {}
        for name, values in scores.items():
            figures[f"ndcg@10 {name}"] = ndcg_at_10(values, self.right)
        for name, values in scores.items():
            first = values.argmax(1)
            figures[f"r@1 {name}"] = float(self.right[np.arange(len(first)), first].mean())
        return figures

    def fusion_weights(self, model: TrainableM3) -> FusionWeights:
        """The weights of dense, sparse and multi-vector scores with the best nDCG@10 of their sum.

        Args:
            model: A model with all three heads.

        Returns:
            As `choose_weights`.
        """
        scores = self._scores(model, LossSettings())
        dense, sparse, colbert = (scores[head] for head in HEADS)
        return choose_weights([(dense, sparse, colbert)], lambda fused: ndcg_at_10(fused[0], self.right))[0]

    @torch.no_grad()
    def _scores(self, model: TrainableM3, settings: LossSettings) -> dict[str, NDArray[np.float32]]:
        device = model.encoder.embeddings.word_embeddings.weight.device
        plain = LossSettings(heads=settings.heads, temperature=1.0)

        def represented(texts: list[list[int]]) -> Representations:
            return model(*pad_token_ids(texts, model.config.pad_token_id, device=device))  # type: ignore[no-any-return]

        rows: dict[str, list[NDArray[np.float32]]] = {head: [] for head in settings.heads}
        passages = [
            represented(self.passages[start : start + self.part_size])
            for start in range(0, len(self.passages), self.part_size)
        ]
        for start in range(0, len(self.queries), QUERY_PART):
            queries = represented(self.queries[start : start + QUERY_PART])
            parts = [head_scores(queries, part, plain, model.config.vocab_size) for part in passages]
            for head in settings.heads:
                rows[head].append(np.concatenate([part[head].cpu().numpy() for part in parts], axis=1))
        return {head: np.concatenate(values) for head, values in rows.items()}
