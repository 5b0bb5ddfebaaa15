"""`BGERerankFunction` as the Milvus documentation describes it: its parameters, its call and its results.

A thin coat over `M3Reranker`, which does the work.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trivec.engines.selection import reduced_precision
from trivec.model.m3_reranker import DEFAULT_RERANKER, M3Reranker
from trivec.search.hits import RerankResult
from trivec.support.arguments import switch, whole_number

_MODEL_OPTIONS = ("engine", "cache_dir", "revision", "local_files_only", "num_threads", "use_cache")
_OPTIONS = (*_MODEL_OPTIONS, "devices", "precision", "show_progress")

# Arguments of FlagEmbedding's that people pass along: the values that change nothing, and why there are no others.
_INSTRUCTION = "BGE's cross-encoders take no instruction; put it before each text yourself"
_WITHOUT_EFFECT: dict[str, tuple[tuple[Any, ...], str]] = {
    "trust_remote_code": ((None, False, True), "trivec runs no code of a model's"),
    "model_class": ((None, "encoder-only-base"), "trivec runs XLM-RoBERTa cross-encoders, 'encoder-only-base'"),
    "use_bf16": ((None, False), 'bfloat16 is asked for by precision="bf16"'),
    "query_instruction_for_rerank": ((None, ""), _INSTRUCTION),
    "query_instruction_format": ((None, "{}{}"), _INSTRUCTION),
    "passage_instruction_for_rerank": ((None, ""), _INSTRUCTION),
    "passage_instruction_format": ((None, "{}{}"), _INSTRUCTION),
}


class BGERerankFunction:
    """Orders documents by how well they answer a query.

    Example:
        >>> bge_rf = BGERerankFunction("BAAI/bge-reranker-v2-m3", device="cpu")  # doctest: +SKIP
        >>> bge_rf("What is a panda?", ["hi", "The panda is a bear."], top_k=1)[0].index  # doctest: +SKIP
        1

    Attributes:
        reranker: The loaded `M3Reranker`.
        model_name, batch_size, normalize, device: As given to the constructor.
    """

    def __init__(
        self,
        model_name: str | Path = DEFAULT_RERANKER,
        use_fp16: bool = True,
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
            use_fp16: On a GPU compute in float16; a CPU computes in float32 either way, as in the library that this
                replaces. `precision` chooses otherwise.
            batch_size: Taken and without effect: batches are made by tokens, as the engine does best.
            normalize: Give scores between 0 and 1, the sigmoid of the model's.
            device: "cpu", "cuda", "cuda:1" (a number), "mps", or a list of these to split the pairs among; None and ""
                are the CPU.
            query_max_length: Most tokens of a query that are read.
            max_length: Most tokens of a pair that are read; `M3Reranker` reads as many as the model can.
            **kwargs: `devices` (another name for `device`); `precision` ("fp32", "fp16", "bf16", "int8" or "auto",
                instead of `use_fp16`); `engine`, `cache_dir`, `revision`, `local_files_only`, `num_threads` and
                `use_cache`, as of `M3Reranker.load`; `show_progress`. Others of FlagEmbedding's (`trust_remote_code`,
                `query_instruction_for_rerank` ...) are taken with the values that change nothing.

        Raises:
            TypeError: An unknown argument, for which the message names the nearest valid one, or one of a wrong type.
            ValueError: A value is out of its range, or two arguments contradict each other.
            CheckpointError: The model cannot be found, a file of it is unusable, or it is no cross-encoder.
            DeviceError: The device or precision is not to be had here.
            MissingExtraError: A GPU or `engine="torch"` is asked for, and torch is not installed.
        """
        check_names(kwargs, BGERerankFunction)
        devices = kwargs.get("devices")
        if devices not in (None, "") and device not in (None, "", devices):
            raise ValueError(f"device={device!r} and devices={devices!r} contradict each other; give one")
        self.model_name = model_name
        self.batch_size = whole_number("batch_size", batch_size)
        self.normalize = switch("normalize", normalize)
        self.device = device
        self._show_progress = switch("show_progress", kwargs.get("show_progress", True))
        self.reranker = load_as_flag_embedding(model_name, use_fp16, device or devices or None, kwargs)
        try:
            self._query_max_length = whole_number("query_max_length", query_max_length)
            self._max_length = self.reranker.scoring_settings(max_length=_within(self.reranker, max_length))
        except BaseException:
            self.reranker.close()
            raise

    def __call__(self, query: str, documents: Iterable[str], top_k: int | None = 5) -> list[RerankResult]:
        """Order documents, best first.

        Args:
            query: The query.
            documents: The documents' texts.
            top_k: How many to return at most; None or 0: all.
        """
        return self.reranker.rank(
            query,
            documents,
            top_k or None,
            normalize=self.normalize,
            max_length=self._max_length.encoding.max_length,
            query_max_length=self._query_max_length,
            show_progress=self._show_progress,
        )

    def close(self) -> None:
        """Give the model's memory back. Leaving a `with` block does the same."""
        self.reranker.close()

    def __enter__(self) -> BGERerankFunction:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BGERerankFunction {str(self.model_name)!r}: {self.reranker.precision}>"


def load_as_flag_embedding(
    name: str | Path, use_fp16: bool, device: Any, options: Mapping[str, Any]
) -> M3Reranker:
    """Load a cross-encoder in the precision that FlagEmbedding would compute in, unless `options` name another."""
    precision = options.get("precision")
    half = switch("use_fp16", use_fp16) and not _is_cpu(device, options)
    if precision is None:
        precision = reduced_precision(options.get("engine", "auto"), device) if half else "fp32"
    given = {name: options[name] for name in _MODEL_OPTIONS if options.get(name) is not None}
    return M3Reranker.load(name, device=device, precision=precision, **given)
