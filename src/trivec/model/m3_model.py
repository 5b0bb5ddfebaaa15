"""A loaded BGE-M3-shaped model that turns texts into vectors and scores pairs of texts.

Joins checkpoint, tokenizer, engine and the encoding path; computes nothing itself. What `remote.RemoteModel` does
otherwise, as a server does the work, is methods of their own, which come last.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from trivec.encoding import (
    EncodingSettings,
    empty_embeddings,
    encode_windows,
    join_windows,
    texts_of,
    warn_of_truncation,
)
from trivec.errors import CheckpointError
from trivec.model.encoding_arguments import require_heads, settings_of, within_limit
from trivec.model.loaded import LoadedModel
from trivec.model.opening import check_name, open_model
from trivec.support.addresses import is_url
from trivec.support.arguments import checked_pairs, checked_texts, checked_weights
from trivec.support.handles import LoadArguments, loaded_again
from trivec.vectors.embeddings import FloatArray, M3Embedding, M3Embeddings, asked_for
from trivec.vectors.scoring import PairScores, colbert_score, dense_score, in_five_modes, lexical_score, pair_scores
from trivec.vectors.sparse import SparseMatrix, weights_by_id

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from trivec.search.explanation import Explanation
    from trivec.vectors import kinds


class M3Model(LoadedModel):
    """A BGE-M3-shaped model, ready to encode. Make one with `M3Model.load`; safe to use from several threads.

    Attributes:
        name: What it was loaded as: a folder, hub id or URL.
        precision: What the encoder computes in, "auto" decided.
        max_length: Most tokens of a text that are read, unless a call says otherwise.
        tokenizer: The model's tokenizer.
        checkpoint: The opened model folder.
        closed: Whether `close` was called.

    Pickling keeps the name and the arguments of `load`, not the weights: see `support.handles`. Copying gives the
    model itself. A forked child loads the weights anew when it first encodes.
    """

    dense_score = staticmethod(dense_score)
    lexical_score = staticmethod(lexical_score)
    colbert_score = staticmethod(colbert_score)
    _kind = "model"

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "BAAI/bge-m3",
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
    ) -> M3Model:
        """Load a model from a folder or the Hugging Face hub, or use the one that a server of `trivec serve` has.

        With a URL nothing is loaded here: texts are sent to the server, which gives the vectors, and decides on all
        arguments but `max_length`.

        Args:
            name_or_path: Folder in BAAI/bge-m3's layout, hub id, or "nano" for the bundled demonstration model; or
                "http://host:8080", where `trivec serve` runs.
            device: "cpu", "cuda", "cuda:1" (a number), "mps", or a list of these to split the texts among. None is the
                CPU, or with `engine="torch"` the first GPU if there is one.
            engine: "openvino" (CPU), "native" (x86-64 CPUs, in fp32 and int8), "torch" (GPUs, extra `[cuda]`; the CPU
                as well), or "auto": torch on anything but the CPU, there OpenVINO, or the native engine where the
                processor has AVX2 and nothing newer.
            precision: "fp32" (exact), "bf16", "fp16" (torch only), "int8" (not torch; fastest, least exact:
                `trivec verify --texts` says how much), or "auto": bf16 where the processor or GPU has native
                instructions for it; without, fp16 on a GPU and fp32 on a CPU.
            max_length: Most tokens of a text that are read; the model's own limit if None (8192 for BGE-M3).
            cache_dir: Where downloads are kept; the hub library's own cache if None.
            revision: Branch, tag or commit on the hub.
            local_files_only: Never ask the hub.
            num_threads: Threads to compute with on the CPU, for torch those of the whole process; every core if None.
            use_cache: Keep the weights converted to bf16 or int8 on disk, so that the next load is quick.
            api_key: The server's key, for a URL; what TRIVEC_API_KEY in the environment says if None.

        Raises:
            CheckpointError: The model cannot be found or a file of it is unusable.
            ServerError: The server cannot be reached, or refuses the key.
            DeviceError: The device or precision is not available here.
            MissingExtraError: A GPU or `engine="torch"` is asked for, and torch is not installed.
            ValueError: An argument is out of its range.
        """
        check_name(name_or_path)
        loading = (device, engine, precision, max_length, cache_dir, revision, local_files_only, num_threads, use_cache)
        arguments = LoadArguments(name_or_path, *loading, api_key)
        if is_url(name_or_path):
            from trivec.model.remote import RemoteModel

            return RemoteModel(arguments)
        opened = open_model(arguments)
        if opened.checkpoint.is_cross_encoder:
            raise CheckpointError(
                f"{opened.checkpoint.folder} is a cross-encoder, which scores pairs of texts and gives no vectors: "
                "load it with trivec.M3Reranker.load, or as --reranker"
            )
        if max_length is not None:
            opened = opened.reading(within_limit("max_length", max_length, opened.checkpoint.config.max_length))
        return cls(opened)

    def __reduce__(self) -> tuple[Any, ...]:
        return loaded_again, (M3Model.load, self._arguments.for_another_process())

    def __repr__(self) -> str:
        sizes = ", ".join(f"{kind} {size}" for kind, size in self.dim.items())
        return f"<M3Model {self.name!r}: {sizes}; {self._state}>"

    @property
    def dim(self) -> dict[str, int]:
        """Sizes of the vectors: "dense", "sparse" (the vocabulary), and "colbert_vecs" if the model has that head."""
        sizes = {"dense": self.checkpoint.config.hidden_size, "sparse": self.tokenizer.vocabulary_size}
        if self.checkpoint.colbert_linear is not None:
            sizes["colbert_vecs"] = self.checkpoint.colbert_linear.weight.shape[0]
        return sizes

    @property
    def fusion_weights(self) -> tuple[float, float, float]:
        """Weights of dense, sparse and token-vector score in their sum: the model's own, or 1 each."""
        return self.own_fusion_weights or (1.0, 1.0, 1.0)

    @property
    def own_fusion_weights(self) -> tuple[float, float, float] | None:
        """The fusion weights that the model brings; None if it brings none."""
        return self.config.fusion_weights

    @property
    def has_sparse(self) -> bool:
        """Whether the checkpoint has a head for lexical weights."""
        return self.checkpoint.sparse_linear is not None

    @property
    def has_colbert(self) -> bool:
        """Whether the checkpoint has a head for token vectors."""
        return self.checkpoint.colbert_linear is not None

    @overload
    def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.DenseAndSparse]
    ) -> M3Embeddings[FloatArray, SparseMatrix, None]: ...
    @overload
    def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.AllThree]
    ) -> M3Embeddings[FloatArray, SparseMatrix, list[FloatArray]]: ...
    @overload
    def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.DenseOnly]
    ) -> M3Embeddings[FloatArray, None, None]: ...
    @overload
    def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.SparseOnly]
    ) -> M3Embeddings[None, SparseMatrix, None]: ...
    @overload
    def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.ColbertOnly]
    ) -> M3Embeddings[None, None, list[FloatArray]]: ...
    @overload
    def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.DenseAndColbert]
    ) -> M3Embeddings[FloatArray, None, list[FloatArray]]: ...
    @overload
    def encode(
        self, texts: Iterable[str], **options: Unpack[kinds.SparseAndColbert]
    ) -> M3Embeddings[None, SparseMatrix, list[FloatArray]]: ...
    @overload
    def encode(self, texts: Iterable[str], **options: Unpack[kinds.Unknown]) -> M3Embeddings: ...

    def encode(
        self,
        texts: Iterable[str],
        *,
        max_batch_tokens: int | None = None,
        max_length: int | None = None,
        return_dense: bool = True,
        return_sparse: bool = True,
        return_colbert_vecs: bool = False,
        normalize: bool = True,
        mcls: int | None = None,
        show_progress: bool = True,
    ) -> M3Embeddings[Any, Any, Any]:
        """Encode texts; the vectors come in the order of the texts and do not depend on each other.

        Args:
            texts: Any iterable of str.
            max_batch_tokens: Memory knob: most tokens computed at once, however many texts that makes; a text longer
                than that is a batch of its own. None is what the engine does best with: on the CPU 1,024 (no engine
                there takes more, however many are allowed), on a CUDA GPU 8,192 to 32,768, as far as free memory
                allows; with torch on `mps` or the CPU, 4,096.
            max_length: Most tokens of a text that are read; the model's `max_length` if None. One `TruncationWarning`
                counts the texts that were longer; `cut` of the result says which they are.
            return_dense: Compute dense vectors.
            return_sparse: Compute sparse vectors.
            return_colbert_vecs: Compute token vectors (4 KB a token at full size).
            normalize: Scale dense and token vectors to length 1.
            mcls: Read with one more `<s>` before every so many tokens (256 in the M3 paper, which calls it MCLS) and
                take their mean as the dense vector: for long texts, without training. None: read as BGE-M3 does.
            show_progress: Show a progress bar once the work has gone on for 5 seconds.

        Raises:
            TypeError: `texts` is a bare str, or holds something that is not a str; the index is named.
            ValueError: A number is out of its range, or no vectors are asked for.
            MissingHeadError: The checkpoint has no head for the vectors asked for.
        """
        vectors = (return_dense, return_sparse, return_colbert_vecs, normalize)
        settings = settings_of(self, max_batch_tokens, max_length, *vectors, mcls, show_progress)
        embeddings = self._encode(texts, settings)
        warn_of_truncation(embeddings.truncated, len(embeddings), settings.max_length)
        return embeddings

    @overload
    def encode_stream(
        self, texts: Iterable[str], **options: Unpack[kinds.DenseAndSparse]
    ) -> Iterator[M3Embedding[FloatArray, SparseMatrix, None]]: ...
    @overload
    def encode_stream(
        self, texts: Iterable[str], **options: Unpack[kinds.AllThree]
    ) -> Iterator[M3Embedding[FloatArray, SparseMatrix, FloatArray]]: ...
    @overload
    def encode_stream(
        self, texts: Iterable[str], **options: Unpack[kinds.DenseOnly]
    ) -> Iterator[M3Embedding[FloatArray, None, None]]: ...
    @overload
    def encode_stream(
        self, texts: Iterable[str], **options: Unpack[kinds.SparseOnly]
    ) -> Iterator[M3Embedding[None, SparseMatrix, None]]: ...
    @overload
    def encode_stream(
        self, texts: Iterable[str], **options: Unpack[kinds.ColbertOnly]
    ) -> Iterator[M3Embedding[None, None, FloatArray]]: ...
    @overload
    def encode_stream(
        self, texts: Iterable[str], **options: Unpack[kinds.DenseAndColbert]
    ) -> Iterator[M3Embedding[FloatArray, None, FloatArray]]: ...
    @overload
    def encode_stream(
        self, texts: Iterable[str], **options: Unpack[kinds.SparseAndColbert]
    ) -> Iterator[M3Embedding[None, SparseMatrix, FloatArray]]: ...
    @overload
    def encode_stream(self, texts: Iterable[str], **options: Unpack[kinds.Unknown]) -> Iterator[M3Embedding]: ...

    def encode_stream(
        self,
        texts: Iterable[str],
        *,
        max_batch_tokens: int | None = None,
        max_length: int | None = None,
        return_dense: bool = True,
        return_sparse: bool = True,
        return_colbert_vecs: bool = False,
        normalize: bool = True,
        mcls: int | None = None,
        show_progress: bool = True,
    ) -> Iterator[M3Embedding[Any, Any, Any]]:
        """Encode texts one after another out of an iterable of any length, in flat memory.

        Reads up to two thousand texts ahead. If the iterable raises, the vectors of the texts before come out first.
        Arguments and errors are those of `encode`; the warning that counts the texts that were cut comes at the end.
        """
        vectors = (return_dense, return_sparse, return_colbert_vecs, normalize)
        settings = settings_of(self, max_batch_tokens, max_length, *vectors, mcls, show_progress)
        checked = checked_texts(texts)
        total = len(texts) if isinstance(texts, Sized) else None
        return texts_of(self._windows(checked, total, settings), settings.max_length)

    def token_weights(self, text: str) -> list[tuple[str, float]]:
        """Return the text's (token, lexical weight) pairs for people to read, heaviest first."""
        return self.named_weights(asked_for(self.encode([text], return_dense=False).sparse))

    def named_weights(self, sparse: SparseMatrix) -> list[tuple[str, float]]:
        """Return the (token, lexical weight) pairs of one text's sparse vector, 1 x vocabulary, heaviest first."""
        heaviest_first = sorted(weights_by_id(sparse).items(), key=lambda pair: -pair[1])
        return [(self.tokenizer.token_text(token_id), weight) for token_id, weight in heaviest_first]

    def compute_score(
        self,
        pairs: Iterable[tuple[str, str]] | tuple[str, str],
        weights: Sequence[float] | None = None,
        *,
        max_batch_tokens: int | None = None,
        max_length: int | None = None,
    ) -> dict[str, Any]:
        """Score (query, passage) pairs in FlagEmbedding's five modes.

        Args:
            pairs: Pairs of texts, or one pair.
            weights: Of dense, sparse and token-vector score in the two weighted means; `fusion_weights` if None.
            max_batch_tokens: As in `encode`.
            max_length: As in `encode`.

        Returns:
            "colbert", "sparse", "dense", "sparse+dense" and "colbert+sparse+dense": a list of one score a pair, or for
            one pair given by itself the score.

        Raises:
            TypeError: A pair is not two strings; its index is named. Or `pairs` is a table, a mapping or a bare str.
            ValueError: `weights` are not three numbers, one is negative, or all are 0.
            MissingHeadError: The checkpoint lacks a head.
        """
        listed, one = checked_pairs(pairs)
        of_three = checked_weights(self.fusion_weights if weights is None else weights)
        settings = settings_of(self, max_batch_tokens, max_length, return_colbert_vecs=True)
        scores, truncated = self._pair_scores(listed, settings)
        warn_of_truncation(truncated, 2 * len(listed), settings.max_length)
        modes = in_five_modes(scores, of_three)
        return {mode: values[0] for mode, values in modes.items()} if one else modes

    def explain(self, query: str, text: str, *, max_length: int | None = None) -> Explanation:
        """Show why a text matches a query: the weight of each word, and how near words are to each other.

        Args:
            query: The query.
            text: The text.
            max_length: As in `encode`.

        Raises:
            TypeError: One of the two is no str.
            ValueError: `max_length` is out of its range.
        """
        from trivec.model.pair_explanation import explanation

        return explanation(self, query, text, max_length)

    def require_heads(self, *, sparse: bool, colbert: bool) -> None:
        """Make sure that the checkpoint has the heads asked for.

        Raises:
            MissingHeadError: One is absent; the message names its file.
        """
        require_heads(self, sparse=sparse, colbert=colbert)

    def checked_length(self, max_length: int | None, name: str = "max_length") -> int:
        """Return `max_length`, which the user knows as `name`, or the model's own if None.

        Raises:
            TypeError: It is no whole number.
            ValueError: It is below 2 (`<s>` and `</s>`) or beyond the model's positions.
        """
        return self.max_length if max_length is None else within_limit(name, max_length, self._length_limit)

    def encoding_settings(self, **options: Unpack[kinds.Unknown]) -> EncodingSettings:
        """Return the arguments of `encode`, which has their meaning and errors, checked."""
        return settings_of(self, **options)

    def _encode(self, texts: Iterable[str], settings: EncodingSettings) -> M3Embeddings:
        checked = list(checked_texts(texts))
        if self._scheduler is not None:
            return self._scheduler.submit(checked, settings).result()
        return self._joined(list(self._windows(checked, len(checked), settings)), settings)

    def _joined(self, windows: Sequence[M3Embeddings], settings: EncodingSettings) -> M3Embeddings:
        """Return the vectors of windows, perhaps of none, as those of one."""
        if not windows:
            return empty_embeddings(settings.heads, self.dim["dense"], self.dim["sparse"])
        return join_windows(windows)

    @property
    def _place(self) -> str:
        """Where the model's files are, for messages."""
        return str(self.checkpoint.folder)

    def _windows(
        self, texts: Iterable[str], total: int | None, settings: EncodingSettings
    ) -> Generator[M3Embeddings, None, None]:
        """Encode texts, `total` of them if that is known, and yield the vectors of one window after another."""
        return encode_windows(texts, total, self.tokenizer, self._engine, settings)

    def _pair_scores(self, pairs: list[tuple[str, str]], settings: EncodingSettings) -> tuple[PairScores, int]:
        """Return the scores of pairs, and how many of their texts were cut."""
        embeddings = self._encode([text for pair in pairs for text in pair], settings)
        of_texts = list(embeddings)
        return pair_scores(of_texts[::2], of_texts[1::2]), embeddings.truncated


def encode_without_warning(model: M3Model, texts: Iterable[str], **options: Unpack[kinds.Unknown]) -> M3Embeddings:
    """Encode as `M3Model.encode` does, for trivec itself: whoever calls this reads `truncated` and decides what to say.

    So that a call of the user's which encodes many times warns once, or not of what it has warned of before.
    """
    return model._encode(texts, model.encoding_settings(**options))
