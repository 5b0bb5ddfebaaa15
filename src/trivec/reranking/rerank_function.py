"""`BGERerankFunction` as the Milvus documentation describes it: its parameters, its call and its results.

A thin coat over `FlagReranker`, as it is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trivec.model.m3_reranker import DEFAULT_RERANKER
from trivec.reranking.flag_reranker import FlagReranker
from trivec.search.hits import RerankResult
from trivec.support.arguments import checked_texts, whole_number


class BGERerankFunction:
    """Orders documents by how well they answer a query.

    Example:
        >>> bge_rf = BGERerankFunction("BAAI/bge-reranker-v2-m3", device="cpu")  # doctest: +SKIP
        >>> bge_rf("What is a panda?", ["hi", "The panda is a bear."], top_k=1)[0].index  # doctest: +SKIP
        1

    Attributes:
        reranker: The loaded `FlagReranker`.
        model_name, batch_size, normalize, device: As given to the constructor.
    """

    def __init__(
        self,
        model_name: str | Path = DEFAULT_RERANKER,
        use_fp16: bool = False,
        batch_size: int = 32,
        normalize: bool = True,
        device: str | Sequence[str] | None = None,
        query_max_length: int = 256,
        max_length: int = 512,
        **kwargs: Any,
    ) -> None:
        """Load the model.

        Args:
            model_name: Folder in BAAI/bge-reranker-v2-m3's layout, or hub id.
            use_fp16: As of `FlagReranker`; False computes in float32, exactly, as the library that this replaces does
                on a CPU.
            batch_size: See there.
            normalize: Give scores between 0 and 1, the sigmoid of the model's.
            device: "cpu", "cuda", "cuda:1" (a number), "mps", or a list of these to split the pairs among; None and ""
                are the CPU.
            query_max_length: Most tokens of a query that are read.
            max_length: Most tokens of a pair that are read.
            **kwargs: `devices` (another name for `device`), `model_class` ("encoder-only-base", which is what trivec
                runs), and what else `FlagReranker` takes.

        Raises:
            TypeError: An unknown argument, or one of a wrong type.
            ValueError: A value is out of its range, or `device` and `devices` contradict each other.
            CheckpointError: The model cannot be found, a file of it is unusable, or it is no cross-encoder.
            DeviceError: The device or precision is not available here.
            MissingExtraError: A GPU or `engine="torch"` is asked for, and torch is not installed.
        """
        model_class = kwargs.pop("model_class", None)
        if model_class not in (None, "encoder-only-base"):
            raise ValueError(f"model_class={model_class!r:.60} is not available: trivec runs 'encoder-only-base'")
        devices = kwargs.pop("devices", None)
        if devices and device and devices != device:
            raise ValueError(f"device={device!r} and devices={devices!r} contradict each other; give one")
        self.model_name = model_name
        self.batch_size = batch_size
        self.normalize = normalize
        self.device = device
        self.reranker = FlagReranker(
            model_name,
            use_fp16=use_fp16,
            devices=device or devices,
            batch_size=batch_size,
            query_max_length=query_max_length,
            max_length=max_length,
            normalize=normalize,
            **kwargs,
        )

    def __call__(self, query: str, documents: Iterable[str], top_k: int | None = 5) -> list[RerankResult]:
        """Order documents, best first; of equal ones the earlier one comes first.

        Args:
            query: The query.
            documents: The documents' texts.
            top_k: How many to return at most; None or 0: all.

        Raises:
            TypeError: The query is no str, or `documents` are no iterable of str.
            ValueError: `top_k` is negative.
        """
        kept = whole_number("top_k", top_k or 0, 0) or None
        texts = list(checked_texts(documents, "documents"))
        scores = self.reranker.compute_score([(query, text) for text in texts])
        order = sorted(range(len(texts)), key=lambda i: -scores[i])
        return [RerankResult(texts[i], scores[i], i) for i in order[:kept]]

    def __repr__(self) -> str:
        return f"<BGERerankFunction {str(self.model_name)!r}: {self.reranker.model.precision}>"
