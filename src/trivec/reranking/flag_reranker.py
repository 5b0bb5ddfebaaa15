"""`FlagReranker`: FlagEmbedding's class, its parameters and results, so that an import is all to change.

A thin coat over `M3Reranker`, which does the work. What differs is listed in docs/migration.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trivec.engines.selection import devices_by_number, reduced_precision
from trivec.model.m3_reranker import DEFAULT_RERANKER, M3Reranker
from trivec.support.arguments import checked_pairs, switch, whole_number

# Of `M3Reranker.load`, for those who have changed more than the import.
_LOADING = ("engine", "revision", "local_files_only", "num_threads", "use_cache", "api_key")
_OTHERS = (*_LOADING, "precision", "show_progress")


class FlagReranker:
    """A cross-encoder as FlagEmbedding's users know it.

    Example:
        >>> reranker = FlagReranker("BAAI/bge-reranker-v2-m3")  # doctest: +SKIP
        >>> reranker.compute_score(["query", "passage"])  # doctest: +SKIP
        [-5.65]

    Attributes:
        model: The loaded `M3Reranker`.
        tokenizer: Its tokenizer.
        model_name_or_path, use_fp16, batch_size, query_max_length, max_length, normalize: As given to the constructor.
    """

    def __init__(
        self,
        model_name_or_path: str | Path = DEFAULT_RERANKER,
        use_fp16: bool = False,
        query_instruction_for_rerank: str | None = None,
        query_instruction_format: str = "{}{}",
        passage_instruction_for_rerank: str | None = None,
        passage_instruction_format: str = "{}{}",
        trust_remote_code: bool = False,
        cache_dir: str | Path | None = None,
        devices: str | int | Sequence[str] | Sequence[int] | None = None,
        batch_size: int = 128,
        query_max_length: int | None = None,
        max_length: int = 512,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        """Load the model.

        Args:
            model_name_or_path: Folder in BAAI/bge-reranker-v2-m3's layout, or hub id.
            use_fp16: Compute in float16 on a GPU, and on the CPU in the fastest reduced precision that it has
                (bfloat16), else in float32. False: float32, exactly.
            query_instruction_for_rerank: Put before each query; BGE's cross-encoders take none.
            query_instruction_format: How: the instruction stands for the first {}, the query for the second.
            passage_instruction_for_rerank: The same for passages.
            passage_instruction_format: The same for passages.
            trust_remote_code: Without effect: no code of a model's is run.
            cache_dir: Where downloads are kept.
            devices: "cpu", "cuda", "cuda:1", "mps", the number of a GPU, or a list of these; None is the CPU.
            batch_size: Batches are made by tokens; less than 4 saves memory, as in `BGEM3EmbeddingFunction`.
            query_max_length: Most tokens of a query that are read; None: three quarters of `max_length`.
            max_length: Most tokens of a pair that are read, the four special ones included. `M3Reranker` reads as many
                as the model can, 8192 of BAAI/bge-reranker-v2-m3.
            normalize: Give scores between 0 and 1, the sigmoid of the model's.
            **kwargs: `precision` and `show_progress`; of `M3Reranker.load` `engine`, `revision`, `local_files_only`,
                `num_threads`, `use_cache` and `api_key`.

        Raises:
            TypeError: An argument that there is not, or one of a wrong type.
            ValueError: A value is out of its range.
            CheckpointError: The model cannot be found, a file of it is unusable, or it is no cross-encoder.
            DeviceError: The device or precision is not available here.
            MissingExtraError: A GPU is asked for, and torch is not installed.
        """
        if unknown := sorted(kwargs.keys() - set(_OTHERS)):
            raise TypeError(f"FlagReranker got an unexpected argument {unknown[0]!r}; it takes {', '.join(_OTHERS)}")
        self.model_name_or_path = model_name_or_path
        self.use_fp16 = switch("use_fp16", use_fp16)
        self.batch_size = whole_number("batch_size", batch_size)
        self.query_max_length = query_max_length
        self.max_length = max_length
        self.normalize = switch("normalize", normalize)
        self.query_instruction_for_rerank = query_instruction_for_rerank
        self.query_instruction_format = query_instruction_format
        self.passage_instruction_for_rerank = passage_instruction_for_rerank
        self.passage_instruction_format = passage_instruction_format
        self._show_progress = switch("show_progress", kwargs.get("show_progress", True))
        device = devices_by_number(devices)
        precision = kwargs.get("precision")
        if precision is None:
            precision = reduced_precision(kwargs.get("engine") or "auto", device) if self.use_fp16 else "fp32"
        loading = {name: kwargs[name] for name in _LOADING if kwargs.get(name) is not None}
        self.model = M3Reranker.load(
            model_name_or_path, device=device, precision=precision, cache_dir=cache_dir, **loading
        )
        self.tokenizer = self.model.tokenizer
        try:
            self.model.scoring_settings(max_length=max_length, query_max_length=query_max_length)
        except BaseException:
            self.model.close()
            raise

    def compute_score(
        self,
        sentence_pairs: Sequence[Sequence[str]] | Sequence[str],
        batch_size: int | None = None,
        query_max_length: int | None = None,
        max_length: int | None = None,
        normalize: bool | None = None,
    ) -> list[float]:
        """Score pairs of a query and a passage.

        Args:
            sentence_pairs: Pairs of texts, or one pair.
            batch_size: As for the constructor, and so are all others; what is None is as it was there.
            query_max_length: See there.
            max_length: See there.
            normalize: See there.

        Returns:
            One score a pair; a list of one for one pair given by itself.

        Raises:
            TypeError: A pair is not two strings; its index is named.
            ValueError: A number is out of its range.
        """
        pairs, _ = checked_pairs(sentence_pairs)
        longest = self.max_length if max_length is None else max_length
        of_query = self.query_max_length if query_max_length is None else query_max_length
        batch = self.batch_size if batch_size is None else whole_number("batch_size", batch_size)
        return self.model.compute_score(
            [(self._query(query), self._passage(passage)) for query, passage in pairs],
            normalize=self.normalize if normalize is None else normalize,
            max_length=longest,
            query_max_length=max(1, longest * 3 // 4) if of_query is None else of_query,
            max_batch_tokens=batch * 256 if batch < 4 else None,
            show_progress=self._show_progress,
        )

    def stop_self_pool(self) -> None:
        """Do nothing: there are no processes to stop."""

    def __repr__(self) -> str:
        return f"<FlagReranker {str(self.model_name_or_path)!r}: {self.model.precision}>"

    def _query(self, text: str) -> str:
        return _instructed(self.query_instruction_for_rerank, self.query_instruction_format, text)

    def _passage(self, text: str) -> str:
        return _instructed(self.passage_instruction_for_rerank, self.passage_instruction_format, text)


def _instructed(instruction: str | None, form: str, text: str) -> str:
    return text if instruction is None else form.replace("\\n", "\n").format(instruction, text)
