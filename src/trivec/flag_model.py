"""`BGEM3FlagModel`: FlagEmbedding's class, its parameters, methods and results, so that an import is all to change.

A thin coat over `M3Model`, which does the work. What differs is listed in docs/migration.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trivec.encoding import warn_of_truncation
from trivec.engines.selection import devices_by_number, reduced_precision
from trivec.model import M3Model, encode_without_warning
from trivec.support.addresses import is_url
from trivec.support.arguments import checked_pairs, checked_weights, switch, whole_number
from trivec.vectors.embeddings import M3Embeddings
from trivec.vectors.scoring import colbert_score, in_five_modes, pair_scores
from trivec.vectors.sparse import SparseMatrix, weights_by_id

LexicalWeights = Mapping[str, float]

# Of `M3Model.load`, for those who have changed more than the import.
_LOADING = ("engine", "revision", "local_files_only", "num_threads", "use_cache", "api_key")
_OTHERS = ("passage_instruction_for_retrieval", "passage_instruction_format", "precision", "show_progress")
_ALWAYS_NUMPY = "convert_to_numpy"


class BGEM3FlagModel:
    """BGE-M3 as FlagEmbedding's users know it.

    Example:
        >>> model = BGEM3FlagModel("BAAI/bge-m3", use_fp16=False)  # doctest: +SKIP
        >>> model.encode(["What is BGE M3?"], return_sparse=True)["lexical_weights"][0]  # doctest: +SKIP
        {'4865': 0.0836, '83': 0.0814, '335': 0.1296, '11679': 0.2517, '276': 0.1699, '363': 0.2695, '32': 0.0408}

    Attributes:
        model: The loaded `M3Model`.
        tokenizer: Its tokenizer, with the methods of Hugging Face's that tutorials call.
    """

    def __init__(
        self,
        model_name_or_path: str | Path = "BAAI/bge-m3",
        normalize_embeddings: bool = True,
        use_fp16: bool = True,
        use_bf16: bool = False,
        query_instruction_for_retrieval: str | None = None,
        query_instruction_format: str = "{}{}",
        devices: str | int | Sequence[str] | Sequence[int] | None = None,
        pooling_method: str = "cls",
        trust_remote_code: bool = False,
        cache_dir: str | Path | None = None,
        colbert_dim: int = -1,
        batch_size: int = 256,
        query_max_length: int | None = None,
        passage_max_length: int | None = None,
        return_dense: bool = True,
        return_sparse: bool = False,
        return_colbert_vecs: bool = False,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Load the model.

        Args:
            model_name_or_path: Folder in BAAI/bge-m3's layout, hub id, or the URL of a server of `trivec serve`.
            normalize_embeddings: Scale dense and token vectors to length 1.
            use_fp16: Compute in float16 on a GPU, and on the CPU in the fastest reduced precision that it has
                (bfloat16), else in float32. False: float32, exactly.
            use_bf16: Compute in bfloat16.
            query_instruction_for_retrieval: Put before each query by `encode_queries`; BGE-M3 itself takes none.
            query_instruction_format: How: the instruction stands for the first {}, the query for the second.
            devices: "cpu", "cuda", "cuda:1", "mps", the number of a GPU, or a list of these; None is the CPU.
            pooling_method: "cls", which is BGE-M3's.
            trust_remote_code: Without effect: no code of a model's is run.
            cache_dir: Where downloads are kept.
            colbert_dim: Without effect: the size of token vectors is that of the checkpoint's head.
            batch_size: Batches are made by tokens; less than 4 saves memory, as in `BGEM3EmbeddingFunction`.
            query_max_length: Most tokens of a query that are read; None: the model's limit, 8192 for BGE-M3.
            passage_max_length: The same for passages.
            return_dense: Whether results have "dense_vecs" unless a call says otherwise.
            return_sparse: Whether they have "lexical_weights".
            return_colbert_vecs: Whether they have "colbert_vecs".
            truncate_dim: Keep only so many dimensions of dense and token vectors.
            **kwargs: `passage_instruction_for_retrieval` and `passage_instruction_format`; `precision` and
                `show_progress`; of `M3Model.load` `engine`, `revision`, `local_files_only`, `num_threads`, `use_cache`
                and `api_key`.

        Raises:
            TypeError: An argument that there is not.
            ValueError: A value that cannot be honoured, or is out of its range.
            CheckpointError: The model cannot be found or a file of it is unusable.
            DeviceError: The device or precision is not available here.
            MissingExtraError: A GPU is asked for, and torch is not installed.
            ServerError: The server cannot be reached, or refuses the key.
        """
        if pooling_method != "cls":
            raise ValueError(f"pooling_method={pooling_method!r:.60}: BGE-M3's dense vector is that of `<s>`, 'cls'")
        if not kwargs.pop(_ALWAYS_NUMPY, True):
            raise ValueError(f"{_ALWAYS_NUMPY}=False: results are NumPy's; torch.from_numpy makes tensors of them")
        if unknown := sorted(kwargs.keys() - {*_LOADING, *_OTHERS}):
            raise TypeError(f"BGEM3FlagModel got an unexpected argument {unknown[0]!r}; it takes {', '.join(_OTHERS)}")
        self.model_name_or_path = model_name_or_path
        self.normalize_embeddings = switch("normalize_embeddings", normalize_embeddings)
        self.use_fp16, self.use_bf16 = switch("use_fp16", use_fp16), switch("use_bf16", use_bf16)
        self.batch_size = whole_number("batch_size", batch_size)
        self.return_dense = switch("return_dense", return_dense)
        self.return_sparse = switch("return_sparse", return_sparse)
        self.return_colbert_vecs = switch("return_colbert_vecs", return_colbert_vecs)
        self.truncate_dim = None if truncate_dim is None else whole_number("truncate_dim", truncate_dim)
        self.query_instruction_for_retrieval = query_instruction_for_retrieval
        self.query_instruction_format = query_instruction_format
        self._passage_instruction = kwargs.pop("passage_instruction_for_retrieval", None)
        self._passage_format = kwargs.pop("passage_instruction_format", "{}{}")
        self._show_progress = switch("show_progress", kwargs.pop("show_progress", True))
        device = devices_by_number(devices)
        precision = kwargs.pop("precision", None)
        if precision is None and is_url(model_name_or_path):
            precision = "auto"
        elif precision is None:
            fast = "bf16" if self.use_bf16 else reduced_precision(kwargs.get("engine", "auto"), device)
            precision = fast if self.use_bf16 or self.use_fp16 else "fp32"
        self.model = M3Model.load(model_name_or_path, device=device, precision=precision, cache_dir=cache_dir, **kwargs)
        self.tokenizer = self.model.tokenizer
        self.query_max_length = self.model.checked_length(query_max_length, "query_max_length")
        self.passage_max_length = self.model.checked_length(passage_max_length, "passage_max_length")

    def encode(
        self,
        sentences: str | Iterable[str],
        batch_size: int | None = None,
        max_length: int | None = None,
        return_dense: bool | None = None,
        return_sparse: bool | None = None,
        return_colbert_vecs: bool | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Encode texts, or one.

        Args:
            sentences: The texts; of a single str the results are single, too.
            batch_size: As for the constructor.
            max_length: Most tokens of a text that are read; `passage_max_length` if None.
            return_dense: As for the constructor, and so the next two.
            return_sparse: Whether there are "lexical_weights".
            return_colbert_vecs: Whether there are "colbert_vecs".
            **kwargs: `instruction` and `instruction_format`, put before each text.

        Returns:
            "dense_vecs": (n, dim) float32; "lexical_weights": n dicts of token ids, as text, to weights;
            "colbert_vecs": n arrays of (tokens - 1, dim) float32. None for what was not asked for.

        Raises:
            TypeError: `sentences` holds something that is not a str, or an argument is unknown.
            ValueError: A number is out of its range, or nothing is asked for.
            MissingHeadError: The checkpoint has no head for the vectors asked for.
        """
        instruction, form = kwargs.pop("instruction", None), kwargs.pop("instruction_format", None) or "{}{}"
        _no_others(kwargs)
        one = isinstance(sentences, str)
        texts = [str(sentences)] if one else list(sentences)
        if instruction is not None:
            texts = [form.replace("\\n", "\n").format(instruction, text) for text in texts]
        embeddings = self.model.encode(
            texts,
            max_batch_tokens=self._batch_tokens(batch_size),
            max_length=self.passage_max_length if max_length is None else max_length,
            return_dense=self.return_dense if return_dense is None else return_dense,
            return_sparse=self.return_sparse if return_sparse is None else return_sparse,
            return_colbert_vecs=self.return_colbert_vecs if return_colbert_vecs is None else return_colbert_vecs,
            normalize=self.normalize_embeddings,
            show_progress=self._show_progress,
        )
        results = self._results(embeddings)
        return {name: None if found is None else found[0] for name, found in results.items()} if one else results

    def encode_queries(
        self, queries: str | Iterable[str], batch_size: int | None = None, max_length: int | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Encode queries, reading up to `query_max_length` tokens of each; otherwise as `encode`."""
        kwargs = {
            "instruction": self.query_instruction_for_retrieval,
            "instruction_format": self.query_instruction_format,
        } | kwargs
        return self.encode(queries, batch_size, self.query_max_length if max_length is None else max_length, **kwargs)

    def encode_corpus(
        self, corpus: str | Iterable[str], batch_size: int | None = None, max_length: int | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Encode passages; otherwise as `encode`."""
        kwargs = {"instruction": self._passage_instruction, "instruction_format": self._passage_format} | kwargs
        return self.encode(corpus, batch_size, max_length, **kwargs)

    def convert_id_to_token(
        self, lexical_weights: LexicalWeights | Sequence[LexicalWeights]
    ) -> dict[str, float] | list[dict[str, float]]:
        """Return lexical weights by the texts of their tokens; of one dict, or a list of one, a dict."""
        given = [lexical_weights] if isinstance(lexical_weights, Mapping) else lexical_weights
        named = [{self.tokenizer.decode([int(token)]): weight for token, weight in one.items()} for one in given]
        return named[0] if len(named) == 1 else named

    def compute_lexical_matching_score(
        self,
        lexical_weights_1: LexicalWeights | Sequence[LexicalWeights],
        lexical_weights_2: LexicalWeights | Sequence[LexicalWeights],
    ) -> float | npt.NDArray[np.float64]:
        """Sum of products of the weights of shared tokens: a number for two dicts, (n, m) for lists of n and m.

        Raises:
            ValueError: One is a dict and the other a list.
        """
        if isinstance(lexical_weights_1, Mapping) and isinstance(lexical_weights_2, Mapping):
            return _lexical_score(lexical_weights_1, lexical_weights_2)
        if isinstance(lexical_weights_1, Mapping) or isinstance(lexical_weights_2, Mapping):
            raise ValueError("give two dicts of lexical weights, or two lists of them")
        return np.array([[_lexical_score(one, other) for other in lexical_weights_2] for one in lexical_weights_1])

    def colbert_score(self, q_reps: npt.NDArray[np.float32], p_reps: npt.NDArray[np.float32]) -> np.float32:
        """MaxSim of token vectors, (tokens, dim) each, divided by the number of query tokens.

        Where FlagEmbedding gives a tensor this is a NumPy scalar, which has `item()` too.
        """
        return np.float32(colbert_score(q_reps, p_reps))

    def compute_score(
        self,
        sentence_pairs: Sequence[tuple[str, str]] | tuple[str, str],
        batch_size: int | None = None,
        max_query_length: int | None = None,
        max_passage_length: int | None = None,
        weights_for_different_modes: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any] | list[Any]:
        """Score pairs of a query and a passage in five modes.

        Args:
            sentence_pairs: Pairs of texts, or one pair.
            batch_size: As for the constructor.
            max_query_length: Most tokens of a query that are read; `query_max_length` if None.
            max_passage_length: The same for passages.
            weights_for_different_modes: Of dense, sparse and token-vector score in the weighted means; None: 1 each.
            **kwargs: None are left.

        Returns:
            "colbert", "sparse", "dense", "sparse+dense" and "colbert+sparse+dense": a list of one score a pair, or for
            one pair given by itself the score. Of no pairs at all, an empty list.

        Raises:
            TypeError: A pair is not two strings; its index is named.
            ValueError: Not three weights, or a number is out of its range.
            MissingHeadError: The checkpoint lacks a head.
        """
        _no_others(kwargs)
        pairs, one = checked_pairs(sentence_pairs)
        weights = checked_weights(
            (1.0, 1.0, 1.0) if weights_for_different_modes is None else weights_for_different_modes
        )
        if not pairs:
            return []
        longest = (
            self.query_max_length if max_query_length is None else max_query_length,
            self.passage_max_length if max_passage_length is None else max_passage_length,
        )
        of_side: list[M3Embeddings] = []
        for side, max_length in enumerate(longest):
            texts = [pair[side] for pair in pairs]
            embeddings = encode_without_warning(
                self.model,
                texts,
                max_batch_tokens=self._batch_tokens(batch_size),
                max_length=max_length,
                return_colbert_vecs=True,
                normalize=self.normalize_embeddings,
                show_progress=self._show_progress,
            )
            warn_of_truncation(embeddings.truncated, len(texts), max_length, ("queries", "passages")[side])
            of_side.append(embeddings)
        modes = in_five_modes(pair_scores(list(of_side[0]), list(of_side[1])), weights)
        return {mode: values[0] for mode, values in modes.items()} if one else modes

    def stop_self_pool(self) -> None:
        """Do nothing: there are no processes to stop."""

    def __repr__(self) -> str:
        return f"<BGEM3FlagModel {str(self.model_name_or_path)!r}: {self.model.precision}>"

    def _batch_tokens(self, batch_size: int | None) -> int | None:
        texts = self.batch_size if batch_size is None else whole_number("batch_size", batch_size)
        return texts * 256 if texts < 4 else None

    def _results(self, embeddings: M3Embeddings) -> dict[str, Any]:
        dense, sparse, colbert_vecs = embeddings.dense, embeddings.sparse, embeddings.colbert_vecs
        return {
            "dense_vecs": None if dense is None else self._cut(dense),
            "lexical_weights": None if sparse is None else [_by_text_id(row) for row in sparse],
            "colbert_vecs": None if colbert_vecs is None else [self._cut(vectors) for vectors in colbert_vecs],
        }

    def _cut(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self.truncate_dim is None:
            return vectors
        vectors = vectors[:, : self.truncate_dim]
        if not self.normalize_embeddings:
            return vectors.copy()
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return np.asarray(vectors / lengths, np.float32)


def _by_text_id(row: SparseMatrix) -> dict[str, float]:
    # As there, a token that a text has not weighs 0.
    weights: dict[str, float] = defaultdict(int)
    weights.update((str(token), weight) for token, weight in weights_by_id(row).items())
    return weights


def _lexical_score(one: LexicalWeights, other: LexicalWeights) -> float:
    return sum((weight * other[token] for token, weight in one.items() if token in other), 0.0)


def _no_others(kwargs: Mapping[str, Any]) -> None:
    others = sorted(name for name, value in kwargs.items() if not (name == _ALWAYS_NUMPY and value in (None, True)))
    if others:
        raise TypeError(f"{others[0]}={kwargs[others[0]]!r:.60} cannot be honoured: it is an argument of transformers'")
