"""One plain callable, Arrow table in, Arrow table out: what every engine for tables takes (Ray Data, Daft, Spark)."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from trivec.errors import TrivecError
from trivec.model import M3Model, encode_without_warning
from trivec.shards.columns import VECTOR_COLUMNS, Vectors, vector_arrays, vector_fields
from trivec.support.arguments import switch
from trivec.support.extras import require
from trivec.support.handles import LoadArguments, loaded_again
from trivec.vectors.token_forms import TokenForm
from trivec.vectors.token_storage import check_form

# Characters of texts whose token vectors are held at once in float32: 50 MB at full size, or more in dense scripts.
_CHARACTERS_WITH_TOKEN_VECTORS = 50_000


@dataclass(frozen=True)
class ModelIdentity:
    """What decides an encoder's vectors besides its options.

    Attributes:
        name: What the model was loaded as.
        fingerprint: SHA-256 of its weights, heads and tokenizer, as `M3Model.fingerprint`.
        precision: What it computes in, "auto" decided.
        max_length: Most tokens of a text that are read.
        dims: Sizes of the vectors, as `M3Model.dim`.
    """

    name: str
    fingerprint: str
    precision: str
    max_length: int
    dims: dict[str, int]


class Encoder:
    """Adds a model's vectors to Arrow tables of texts; `trivec.shards.columns` describes the columns.

    Pickles to its arguments. The model is loaded when it is first needed, once a process however many encoders of the
    same arguments are unpickled there. The vectors of a text depend on nothing else in the table.

    Example:
        >>> encode = Encoder("BAAI/bge-m3", token_vectors="int8")  # doctest: +SKIP
        >>> encode(pyarrow.table({"text": ["a boat", "a bridge"]})).schema.names  # doctest: +SKIP
        ['text', 'dense', 'sparse', 'token_vectors', 'token_scales', 'truncated']

    Args:
        model: A folder or hub id, as `M3Model.load` takes it.
        text_column: The column that is encoded; all columns are passed on.
        dense: Add dense vectors.
        sparse: Add sparse vectors.
        token_vectors: Add token vectors, as "fp16" or "int8".
        mcls: As `M3Model.encode`.
        max_length: Most tokens of a text that are read; the model's own limit if None.
        max_batch_tokens: As `M3Model.encode`.
        load_options: Further arguments of `M3Model.load`: device, engine, precision, num_threads, ...

    Raises:
        ValueError: No vectors are asked for, or `token_vectors` is something else.
        TypeError: An argument is unknown.
    """

    def __init__(
        self,
        model: str | Path = "BAAI/bge-m3",
        *,
        text_column: str = "text",
        dense: bool = True,
        sparse: bool = True,
        token_vectors: TokenForm | None = None,
        mcls: int | None = None,
        max_length: int | None = None,
        max_batch_tokens: int | None = None,
        **load_options: Any,
    ) -> None:
        if token_vectors is not None:
            check_form(token_vectors)
        self.text_column = text_column
        self.vectors = Vectors(switch("dense", dense), switch("sparse", sparse), token_vectors, mcls)
        if not (dense or sparse or token_vectors):
            raise ValueError("nothing to compute: set dense, sparse or token_vectors")
        self.max_batch_tokens = max_batch_tokens
        self._arguments = _load_arguments(model, max_length, load_options).for_another_process()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "model"}

    def with_threads(self, threads: int | None) -> Encoder:
        """Return the same, to compute with so many threads."""
        other = copy(self)
        other._arguments = replace(self._arguments, num_threads=threads)
        return other

    @cached_property
    def model(self) -> M3Model:
        """The model, loaded; heads that it lacks are told.

        Raises:
            CheckpointError, DeviceError, ValueError: As by `M3Model.load`.
            MissingHeadError: It gives none of a kind of vectors asked for.
        """
        model: M3Model = loaded_again(M3Model.load, self._arguments)
        model.require_heads(sparse=self.vectors.sparse, colbert=self.vectors.token_vectors is not None)
        return model

    def identity(self) -> ModelIdentity:
        """Say what decides the vectors; loads the model.

        Raises: as `model`, and as `M3Model.fingerprint`.
        """
        model = self.model
        return ModelIdentity(model.name, model.fingerprint, model.precision, model.max_length, dict(model.dim))

    def schema(self, schema: Any) -> Any:
        """Return the Arrow schema that a table of that schema is encoded to, for engines that want it beforehand.

        Raises:
            ValueError: A column has the name of one that is added, or there is no text column of strings.
        """
        pa = require("pyarrow")
        if taken := [name for name in schema.names if name in VECTOR_COLUMNS]:
            raise ValueError(f"the table has a column {taken[0]!r} already: leave it out, or rename it")
        if self.text_column not in schema.names:
            raise ValueError(f"no column {self.text_column!r} to encode; the table has {', '.join(schema.names)}")
        text = schema.field(self.text_column).type
        if not (pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_string_view(text)):
            raise ValueError(f"the column {self.text_column!r} is of {text}, not of strings")
        for field in vector_fields(self.vectors, self.model.dim):
            schema = schema.append(field)
        return schema

    def __call__(self, table: Any) -> Any:
        """Encode a `pyarrow.Table`.

        Returns:
            A table of the same columns and those of the vectors.

        Raises:
            ValueError: As `schema`; or a text is null, its row is named.
        """
        pa = require("pyarrow")
        schema = self.schema(table.schema)
        column = table.column(self.text_column)
        if column.null_count:
            raise ValueError(f"the text of row {column.is_null().index(True).as_py()} is null: leave such rows out")
        texts = column.to_pylist()
        added = pa.schema(list(schema)[len(table.schema) :])
        parts = [pa.table(self._arrays(texts[start:end]), schema=added) for start, end in self._slices(texts)]
        vectors = pa.concat_tables(parts) if parts else added.empty_table()
        for field in added:
            table = table.append_column(field, vectors.column(field.name))
        return table

    def _slices(self, texts: list[str]) -> Iterator[tuple[int, int]]:
        """Where to cut the texts so that the vectors held at once stay small."""
        cuts = [0]
        if self.vectors.token_vectors is not None:
            characters = 0
            for i, text in enumerate(texts):
                if characters and characters + len(text) > _CHARACTERS_WITH_TOKEN_VECTORS:
                    cuts.append(i)
                    characters = 0
                characters += len(text)
        return pairwise([*cuts, len(texts)]) if texts else iter(())

    def _arrays(self, texts: list[str]) -> list[Any]:
        embeddings = encode_without_warning(
            self.model,
            texts,
            max_batch_tokens=self.max_batch_tokens,
            return_dense=self.vectors.dense,
            return_sparse=self.vectors.sparse,
            return_colbert_vecs=self.vectors.token_vectors is not None,
            mcls=self.vectors.mcls,
            show_progress=False,
        )
        return vector_arrays(embeddings, self.vectors, self.model.dim)


def _load_arguments(model: str | Path, max_length: int | None, options: dict[str, Any]) -> LoadArguments:
    defaults: dict[str, Any] = {
        "device": None,
        "engine": "auto",
        "precision": "auto",
        "cache_dir": None,
        "revision": None,
        "local_files_only": False,
        "num_threads": None,
        "use_cache": True,
        "api_key": None,
    }
    if unknown := sorted(options.keys() - defaults):
        raise TypeError(f"Encoder takes no argument {unknown[0]!r}: of M3Model.load it takes {', '.join(defaults)}")
    if not isinstance(model, str | Path):
        raise TrivecError(f"model {model!r:.60} must be a folder or a hub id: an encoder is sent to other processes")
    return LoadArguments(name_or_path=model, max_length=max_length, **(defaults | options))
