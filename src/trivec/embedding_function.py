"""`BGEM3EmbeddingFunction` as the Milvus documentation describes it: its parameters, methods and form of results.

A thin coat over `M3Model`, which does the work.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trivec.engines.selection import reduced_precision
from trivec.model import M3Model
from trivec.support.addresses import is_url
from trivec.support.arguments import switch, whole_number
from trivec.vectors.embeddings import KINDS, EncodedTexts

_MODEL_OPTIONS = (
    "engine",
    "cache_dir",
    "revision",
    "local_files_only",
    "num_threads",
    "use_cache",
    "max_length",
    "api_key",
)
_OPTIONS = (
    *_MODEL_OPTIONS,
    "model_name_or_path",
    "devices",
    "query_max_length",
    "passage_max_length",
    "precision",
    "mcls",
    "show_progress",
)
_DEFAULT_MODEL = "BAAI/bge-m3"

# Arguments of FlagEmbedding's that people pass along: the values that change nothing, and why there are no others.
_WITHOUT_EFFECT: dict[str, tuple[tuple[Any, ...], str]] = {
    "trust_remote_code": ((None, False, True), "trivec runs no code of a model's"),
    "pooling_method": ((None, "cls"), "BGE-M3's dense vector is that of the first token, which is called 'cls'"),
    "use_bf16": ((None, False), 'bfloat16 is asked for by precision="bf16"'),
    "query_instruction_for_retrieval": ((None, ""), "BGE-M3 takes no instruction; put it before each query yourself"),
    "query_instruction_format": ((None, "{}{}"), "BGE-M3 takes no instruction"),
    "colbert_dim": ((None, -1), "the size of token vectors is that of the checkpoint's head"),
    "truncate_dim": ((None,), "vectors have the model's size; cut them yourself"),
}


class BGEM3EmbeddingFunction:
    """Turns texts into the vectors Milvus stores and searches.

    Example:
        >>> bge_m3_ef = BGEM3EmbeddingFunction("BAAI/bge-m3", device="cpu", use_fp16=False)  # doctest: +SKIP
        >>> bge_m3_ef.encode_documents(["Alan Turing was born in London."])["dense"][0].shape  # doctest: +SKIP
        (1024,)

    Attributes:
        model: The loaded `M3Model`.
        model_name, batch_size, device, normalize_embeddings, use_fp16: As given to the constructor.
    """

    def __init__(
        self,
        model_name: str | Path = _DEFAULT_MODEL,
        batch_size: int = 16,
        device: str | Sequence[str] | None = None,
        normalize_embeddings: bool = True,
        use_fp16: bool = False,
        return_dense: bool = True,
        return_sparse: bool = True,
        return_colbert_vecs: bool = False,
        **kwargs: Any,
    ) -> None:
        """Load the model.

        Args:
            model_name: Folder in BAAI/bge-m3's layout, hub id, or "http://host:8080", where `trivec serve` runs and
                decides on `batch_size`, `device`, `use_fp16` and whatever else is about loading.
            batch_size: Taken as the library it replaces takes it, but batches are made by tokens, not texts: 1, 2 and 3
                are 256, 512 and 768 tokens computed at once, to save memory, anything more is what the engine does best
                with. `M3Model.encode` has `max_batch_tokens` for the number itself.
            device: "cpu", "cuda", "cuda:1" (a number), "mps", or a list of these to split the texts among; None and ""
                are the CPU.
            normalize_embeddings: Scale dense and token vectors to length 1.
            use_fp16: False computes in float32, exactly. True computes in float16 where any device is not the CPU; on
                the CPU it takes the fastest reduced precision (bfloat16), or float32 with one warning where there is
                none.
            return_dense: Whether results have "dense".
            return_sparse: Whether results have "sparse".
            return_colbert_vecs: Whether results have "colbert_vecs".
            **kwargs: `model_name_or_path` and `devices` (other names for `model_name` and `device`); `max_length` (most
                tokens of a text that are read; the model's limit, 8192 for BGE-M3, if not given); `query_max_length`
                and `passage_max_length` (the same for `encode_queries` and `encode_documents`); `precision` ("fp32",
                "fp16", "bf16", "int8" or "auto", instead of `use_fp16`); `engine` ("auto", "openvino", "native" or
                "torch", see `M3Model.load`); `cache_dir`, `revision`, `local_files_only` (of the hub); `num_threads`;
                `use_cache` (keep converted weights on disk); `api_key` (of a server; what TRIVEC_API_KEY says if not
                given); `mcls` (as of `M3Model.encode`); `show_progress`. Others of FlagEmbedding's
                (`trust_remote_code`, `pooling_method`, `query_instruction_for_retrieval` ...) are taken with the values
                that change nothing.

        Raises:
            TypeError: An unknown argument, for which the message names the nearest valid one, or one of a wrong type.
            ValueError: A value is out of its range, or two arguments contradict each other.
            CheckpointError: The model cannot be found or a file of it is unusable.
            MissingHeadError: The checkpoint has no head for vectors that are asked for.
            DeviceError: The device or precision is not available here.
            MissingExtraError: A GPU or `engine="torch"` is asked for, and torch is not installed.
            ServerError: The server cannot be reached, or refuses the key.
        """
        _check_names(kwargs)
        model_name = _of_two_names("model_name", model_name, _DEFAULT_MODEL, "model_name_or_path", kwargs)
        device = _of_two_names("device", None if device == "" else device, None, "devices", kwargs)
        if isinstance(batch_size, str) and not batch_size.strip().isdigit():
            raise TypeError(f"batch_size={batch_size!r} is no number: it comes second; write device={batch_size!r}?")
        self._wanted = {
            "return_dense": switch("return_dense", return_dense),
            "return_sparse": switch("return_sparse", return_sparse),
            "return_colbert_vecs": switch("return_colbert_vecs", return_colbert_vecs),
        }
        if not any(self._wanted.values()):
            raise ValueError("nothing to compute: set return_dense, return_sparse or return_colbert_vecs")
        precision = kwargs.get("precision")
        if precision == "fp32" and use_fp16:
            raise ValueError("use_fp16=True and precision='fp32' contradict each other; give one")

        self.model_name = model_name
        self.batch_size = whole_number("batch_size", batch_size)
        self.device = device
        self.normalize_embeddings = switch("normalize_embeddings", normalize_embeddings)
        self.use_fp16 = switch("use_fp16", use_fp16)
        self._mcls = None if kwargs.get("mcls") is None else whole_number("mcls", kwargs["mcls"])
        self._show_progress = switch("show_progress", kwargs.get("show_progress", True))
        options = {name: kwargs[name] for name in _MODEL_OPTIONS if kwargs.get(name) is not None}
        if is_url(model_name):
            if use_fp16:
                raise ValueError("use_fp16=True cannot be given with a URL: the server decides")
            precision = precision or "auto"
        elif precision is None:
            precision = reduced_precision(options.get("engine", "auto"), device) if use_fp16 else "fp32"
        with ExitStack() as on_failure:
            self.model = M3Model.load(model_name, device=device, precision=precision, **options)
            on_failure.callback(self.model.close)
            self.model.require_heads(sparse=return_sparse, colbert=return_colbert_vecs)
            self._query_max_length = self.model.checked_length(kwargs.get("query_max_length"), "query_max_length")
            self._passage_max_length = self.model.checked_length(kwargs.get("passage_max_length"), "passage_max_length")
            on_failure.pop_all()
        if use_fp16 and self.model.precision == "fp32":
            warnings.warn(
                "use_fp16=True: trivec knows of no faster 16-bit arithmetic on this device, so it computes in float32",
                stacklevel=2,
            )

    @property
    def dim(self) -> dict[str, int]:
        """Sizes of the vectors: "dense", "sparse" (the vocabulary) and "colbert_vecs"."""
        return self.model.dim

    def close(self) -> None:
        """Give the model's memory back; encoding afterwards is an error. Leaving a `with` block does the same."""
        self.model.close()

    def __enter__(self) -> BGEM3EmbeddingFunction:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kinds = ", ".join(kind for kind in KINDS if self._wanted[f"return_{kind}"])
        return f"<BGEM3EmbeddingFunction {str(self.model_name)!r}: {kinds}; {self.model.precision}>"

    def __call__(self, texts: Iterable[str]) -> EncodedTexts:
        """Encode texts, reading up to `max_length` tokens of each."""
        return self._encode(texts, self.model.max_length)

    def encode_queries(self, queries: Iterable[str]) -> EncodedTexts:
        """Encode queries, reading up to `query_max_length` tokens of each."""
        return self._encode(queries, self._query_max_length)

    def encode_documents(self, documents: Iterable[str]) -> EncodedTexts:
        """Encode documents, reading up to `passage_max_length` tokens of each."""
        return self._encode(documents, self._passage_max_length)

    def _encode(self, texts: Iterable[str], max_length: int) -> EncodedTexts:
        embeddings = self.model.encode(
            texts,
            # Of 256 tokens each, four texts are as many as the CPU computes at once; more do not make a GPU faster.
            max_batch_tokens=self.batch_size * 256 if self.batch_size < 4 else None,
            max_length=max_length,
            normalize=self.normalize_embeddings,
            mcls=self._mcls,
            show_progress=self._show_progress,
            **self._wanted,
        )
        result = EncodedTexts()
        if embeddings.dense is not None:
            result["dense"] = list(embeddings.dense)
        if embeddings.sparse is not None:
            result["sparse"] = embeddings.sparse
        if embeddings.colbert_vecs is not None:
            result["colbert_vecs"] = embeddings.colbert_vecs
        return result


def _check_names(arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if name in _WITHOUT_EFFECT:
            accepted, why = _WITHOUT_EFFECT[name]
            if not any(type(value) is type(one) and value == one for one in accepted):
                raise ValueError(f"{name}={value!r:.60} is not available: {why}")
        elif name not in _OPTIONS:
            raise TypeError(_unknown_argument(name))


def _of_two_names(name: str, value: Any, default: Any, other_name: str, arguments: Mapping[str, Any]) -> Any:
    """Return an argument that may have been given under another name, or under both."""
    other = arguments.get(other_name)
    if other in (None, ""):
        return value
    if value != default and _as_list(value) != _as_list(other):
        raise ValueError(f"{name}={value!r} and {other_name}={other!r} contradict each other; give one")
    return other if value == default else value


def _as_list(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, (list, tuple)) else [value])]


def _unknown_argument(name: str) -> str:
    named = [parameter for parameter in inspect.signature(BGEM3EmbeddingFunction).parameters if parameter != "kwargs"]
    valid = [*named, *_OPTIONS, *_WITHOUT_EFFECT]
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
    return (
        f"BGEM3EmbeddingFunction got an unexpected argument {name!r}; did you mean {near[0]!r}? "
        f"It takes {', '.join(valid)}"
    )
