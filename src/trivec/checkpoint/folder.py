"""A model folder in the layout of BAAI/bge-m3, opened: config, encoder weights, heads, tokenizer file.

Finds the files, checks every name and shape against the config, and hands out memory-mapped tensors. Knows
nothing about how they are computed with, nor where the folder came from.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trivec.checkpoint.config import M3Config
from trivec.checkpoint.model_files import is_there, read_json_object, read_start
from trivec.checkpoint.safetensors_file import read_safetensors
from trivec.checkpoint.tensors import WEIGHT_DTYPES, StoredTensor
from trivec.checkpoint.torch_file import read_torch_file
from trivec.errors import CheckpointError

# In order of preference; an index names the shards that hold the weights.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
HEAD_FILES = ("sparse_linear.pt", "colbert_linear.pt")
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "config.json"
# What a checkpoint may put before the encoder's names: nothing (AutoModel), or the attribute of a task model.
_PREFIXES = ("", "roberta.", "model.")
# Names of the classification head of XLMRobertaForSequenceClassification, beside the encoder's.
_CLASSIFIER = ("classifier.dense", "classifier.out_proj")


@dataclass(frozen=True)
class Linear:
    """A head: `hidden @ weight.T + bias`.

    Attributes:
        weight: (out, hidden).
        bias: (out,).
    """

    weight: StoredTensor
    bias: StoredTensor


@dataclass(frozen=True)
class Classifier:
    """The head of a cross-encoder: `out(tanh(dense(hidden state of <s>)))`, one score a pair of texts.

    Attributes:
        dense: Weight (hidden, hidden).
        out: Weight (1, hidden).
    """

    dense: Linear
    out: Linear


@dataclass(frozen=True)
class Checkpoint:
    """An opened model folder.

    Attributes:
        folder: Where the files lie.
        config: The encoder's shape.
        encoder: Encoder weights under the names of Hugging Face's XLMRobertaModel, without a prefix.
        sparse_linear: The lexical-weight head, weight (1, hidden), or None if the folder has none.
        colbert_linear: The token-vector head, weight (token vector size, hidden), or None.
        classifier: The head of a cross-encoder, or None.
        weight_files: The files that hold the encoder, in reading order.
        stamps: What tells each file that was opened from another one, or from itself once it has been written to.
    """

    folder: Path
    config: M3Config
    encoder: Mapping[str, StoredTensor]
    sparse_linear: Linear | None
    colbert_linear: Linear | None
    classifier: Classifier | None
    weight_files: tuple[Path, ...]
    stamps: Mapping[Path, tuple[int, ...]]

    @property
    def tokenizer_file(self) -> Path:
        """Path of the tokenizer in Hugging Face `tokenizers` format."""
        return self.folder / TOKENIZER_FILE

    @property
    def is_cross_encoder(self) -> bool:
        """Whether it scores pairs of texts and has no head for vectors."""
        return self.classifier is not None and self.sparse_linear is None and self.colbert_linear is None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the model that is read, the weights first."""
        heads = zip(HEAD_FILES, (self.sparse_linear, self.colbert_linear), strict=True)
        head_files = [self.folder / name for name, head in heads if head is not None]
        return (*self.weight_files, *head_files, self.tokenizer_file, self.folder / CONFIG_FILE)

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Open a model folder and check it; weights are mapped, not read.

        Raises:
            CheckpointError: A file is missing, damaged, truncated, mis-shaped or of another architecture.
        """
        config = M3Config.read(folder / CONFIG_FILE)
        if not is_there(folder / TOKENIZER_FILE):
            raise CheckpointError(
                f"{folder / TOKENIZER_FILE} is missing: copy it from the model's repository, or write it with "
                "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        files = _weight_files(folder)
        read = (*files, *(folder / name for name in (*HEAD_FILES, TOKENIZER_FILE)))
        stamps = {file: file_stamp(file) for file in read if is_there(file)}
        tensors: dict[str, StoredTensor] = {}
        for file in files:
            of_file = _read_tensors(file)
            if twice := tensors.keys() & of_file.keys():
                raise CheckpointError(f"{file} holds {min(twice)!r:.100}, which another shard holds as well: keep one")
            tensors |= of_file
        return cls(
            folder=folder,
            config=config,
            encoder=_encoder_tensors(tensors, config, files),
            sparse_linear=_read_head(folder / "sparse_linear.pt", config.hidden_size, out_features=1),
            colbert_linear=_read_head(folder / "colbert_linear.pt", config.hidden_size),
            classifier=_classifier(tensors, config, files),
            weight_files=files,
            stamps=stamps,
        )


def encoder_shapes(config: M3Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every encoder tensor that `config` calls for."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, hidden),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, hidden),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    for layer in range(config.num_layers):
        name = f"encoder.layer.{layer}."
        for linear in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{name}{linear}.weight": (hidden, hidden), f"{name}{linear}.bias": (hidden,)}
        shapes |= {
            f"{name}intermediate.dense.weight": (inner, hidden),
            f"{name}intermediate.dense.bias": (inner,),
            f"{name}output.dense.weight": (hidden, inner),
            f"{name}output.dense.bias": (hidden,),
        }
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{name}{norm}.weight": (hidden,), f"{name}{norm}.bias": (hidden,)}
    return shapes


def file_stamp(file: Path) -> tuple[int, ...]:
    """Return a file's size, date, inode and device, without what a link or other rights change.

    Raises:
        OSError: It is not there.
    """
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def shard_names(index: Path) -> list[str]:
    """File names of the shards that a `*.index.json` lists, sorted.

    Raises:
        CheckpointError: The index is no JSON object with a `weight_map` of plain file names.
    """
    try:
        names = sorted(set(read_json_object(index)["weight_map"].values()))
        if names and all(Path(name).name == name and name.isprintable() and len(name) < 256 for name in names):
            return names
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of weight shards ({error!r:.300}): download it again") from error
    raise CheckpointError(f"{index} must list shards as plain file names, got {reprlib.repr(names)}")


def _weight_files(folder: Path) -> tuple[Path, ...]:
    for name in WEIGHT_FILES:
        path = folder / name
        if not is_there(path):
            continue
        if not name.endswith(".index.json"):
            return (path,)
        shards = tuple(folder / shard for shard in shard_names(path))
        for shard in shards:
            if not is_there(shard):
                raise CheckpointError(f"{shard} is missing, though {path.name} lists it: download it")
        return shards
    raise CheckpointError(f"{folder} holds no weights: expected one of {', '.join(WEIGHT_FILES)}")


def _read_tensors(path: Path) -> dict[str, StoredTensor]:
    try:
        read_start(path, 64)  # no pointer in its place
        return read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def _encoder_tensors(
    tensors: Mapping[str, StoredTensor], config: M3Config, files: tuple[Path, ...]
) -> dict[str, StoredTensor]:
    where = _place(files)
    anchor = "embeddings.word_embeddings.weight"
    prefix = next((p for p in _PREFIXES if p + anchor in tensors), None)
    if prefix is None:
        raise CheckpointError(
            f"{where} has no tensor {anchor!r} (it starts with {reprlib.repr(sorted(tensors)[:3])}): "
            "not an XLM-RoBERTa encoder"
        )
    layers = {
        name.removeprefix(f"{prefix}encoder.layer.").split(".")[0] for name in tensors if "encoder.layer." in name
    }
    if len(layers) != config.num_layers:
        raise CheckpointError(
            f"{where} has {len(layers)} layers, config.json says {config.num_layers}: they belong to different models"
        )
    shapes = encoder_shapes(config)
    missing = [name for name in shapes if prefix + name not in tensors]
    if missing:
        raise CheckpointError(
            f"{where} lacks {len(missing)} of the {len(shapes)} tensors config.json calls for, first {missing[0]!r}"
        )
    encoder = {name: tensors[prefix + name] for name in shapes}
    for name, shape in shapes.items():
        _check(where, prefix + name, encoder[name], shape)
        # No trained model has one; a download that was broken off may leave the rest of its file as zeros.
        if name.endswith("LayerNorm.weight") and not encoder[name].float32().any():
            raise CheckpointError(
                f"{where}: {prefix + name} is all zeros, so the weights are incomplete: download again"
            )
    return encoder


def _place(files: tuple[Path, ...]) -> Path:
    """Return where weights lie, for messages: their file, or the folder of several."""
    return files[0] if len(files) == 1 else files[0].parent


def _classifier(tensors: Mapping[str, StoredTensor], config: M3Config, files: tuple[Path, ...]) -> Classifier | None:
    names = [f"{name}.{part}" for name in _CLASSIFIER for part in ("weight", "bias")]
    there = [name for name in names if name in tensors]
    if not there:
        return None
    where = _place(files)
    if missing := [name for name in names if name not in tensors]:
        raise CheckpointError(f"{where} has {there[0]!r} but no {missing[0]!r}: half a classification head")
    labels = tensors[names[3]].shape
    if labels != (1,):
        raise CheckpointError(
            f"{where} tells {labels[0] if labels else 'no'} classes apart; a cross-encoder that trivec runs gives one "
            f"score: {names[3]} has shape {labels}, expected (1,)"
        )
    hidden = config.hidden_size
    for name, shape in zip(names, ((hidden, hidden), (hidden,), (1, hidden), (1,)), strict=True):
        _check(where, name, tensors[name], shape)
    dense, out = (Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in _CLASSIFIER)
    return Classifier(dense, out)


def _read_head(path: Path, hidden_size: int, out_features: int | None = None) -> Linear | None:
    if not is_there(path):
        return None
    tensors = _read_tensors(path)
    if not {"weight", "bias"} <= tensors.keys():
        raise CheckpointError(
            f"{path} holds {reprlib.repr(sorted(tensors))}, expected the tensors 'weight' and 'bias' of a linear layer"
        )
    weight, bias = tensors["weight"], tensors["bias"]
    out = out_features or (weight.shape[0] if len(weight.shape) == 2 else 0)
    if out < 1:
        raise CheckpointError(f"{path}: weight has shape {weight.shape}, expected (token vector size, {hidden_size})")
    _check(path, "weight", weight, (out, hidden_size))
    _check(path, "bias", bias, (out,))
    return Linear(weight, bias)


def _check(path: Path, name: str, tensor: StoredTensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise CheckpointError(
            f"{path}: {name} has shape {tensor.shape}, expected {shape} by config.json: they belong to different models"
        )
    if tensor.dtype not in WEIGHT_DTYPES:
        raise CheckpointError(f"{path}: {name} is stored as {tensor.dtype}, expected F32, F16 or BF16")
