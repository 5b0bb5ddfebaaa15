"""Writes a seeded random checkpoint in the layout of BAAI/bge-m3, without torch: for tests, benchmarks and parity.

Or of BAAI/bge-reranker-v2-m3, which is the same encoder with a classification head.

The weights mean nothing, but every file, name, shape and format is that of the real thing.

    python tools/random_checkpoint.py FOLDER --size full --tokenizer ../shared/xlmr-tokenizer
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from sample_texts import SENTENCES
from trivec.checkpoint.config import M3Config
from trivec.checkpoint.folder import encoder_shapes

TINY = M3Config(
    vocab_size=0,  # the tokenizer's
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    intermediate_size=64,
    max_position_embeddings=1026,
    type_vocab_size=1,
    pad_token_id=1,
    layer_norm_eps=1e-5,
)
FULL_SIZE = M3Config(
    vocab_size=250_002,
    hidden_size=1024,
    num_layers=24,
    num_heads=16,
    intermediate_size=4096,
    max_position_embeddings=8194,
    type_vocab_size=1,
    pad_token_id=1,
    layer_norm_eps=1e-5,
)
_NUMPY_TYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_TORCH_STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}


def write_random_checkpoint(
    folder: Path,
    config: M3Config = TINY,
    *,
    tokenizer: Path | None = None,
    seed: int = 0,
    weights: str = "model.safetensors",
    dtype: str = "F32",
    heads: tuple[str, ...] = ("sparse", "colbert"),
    sparse_bias: float = 0.0,
    classifier: int = 0,
) -> Path:
    """Write a random checkpoint.

    Args:
        folder: Made if it is not there.
        config: Shape; `vocab_size` 0 means the tokenizer's.
        tokenizer: Folder with a tokenizer.json to copy; a tiny one is made from the sample texts if None.
        seed: Of the weights.
        weights: "model.safetensors", "pytorch_model.bin", or the name of either's index for two shards.
        dtype: "F32", "F16" or "BF16".
        heads: Which of the two heads to write.
        sparse_bias: Bias of the lexical-weight head; a large one makes every weight positive.
        classifier: Classes of the classification head; with any, the layout is that of BAAI/bge-reranker-v2-m3, which
            has one and none of `heads`.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is None:
        tiny_tokenizer().save(str(folder / "tokenizer.json"))
        names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
        names |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.max_length, **names}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    else:
        for file in tokenizer.glob("*.json"):
            shutil.copyfile(file, folder / file.name)
    vocab_size = config.vocab_size or Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    config = M3Config(**(vars(config) | {"vocab_size": vocab_size}))
    described = config.hugging_face()
    shapes = encoder_shapes(config)
    if classifier:
        heads = ()
        labels = {str(i): f"LABEL_{i}" for i in range(classifier)}
        described |= {"architectures": ["XLMRobertaForSequenceClassification"], "classifier_dropout": None}
        described |= {"id2label": labels, "label2id": {label: int(i) for i, label in labels.items()}}
        shapes = {f"roberta.{name}": shape for name, shape in shapes.items()}
        for name, out in (("dense", config.hidden_size), ("out_proj", classifier)):
            shapes |= {f"classifier.{name}.weight": (out, config.hidden_size), f"classifier.{name}.bias": (out,)}
    (folder / "config.json").write_text(json.dumps(described, indent=1), encoding="utf-8")

    write = write_safetensors if "safetensors" in weights else write_torch_file
    if weights.endswith(".index.json"):
        names_list = list(shapes)
        stem, suffix = weights.removesuffix(".index.json").rsplit(".", 1)
        weight_map = {}
        for number, part in enumerate((names_list[: len(shapes) // 2], names_list[len(shapes) // 2 :]), 1):
            file = f"{stem}-{number:05}-of-00002.{suffix}"
            write(folder / file, {name: shapes[name] for name in part}, seed, dtype)
            weight_map |= dict.fromkeys(part, file)
        (folder / weights).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    else:
        write(folder / weights, shapes, seed, dtype)
    hidden = config.hidden_size
    if "sparse" in heads:
        # A tenth, so that lexical weights are about as large as BGE-M3's.
        weight = random_tensor("sparse.weight", (1, hidden), seed) * np.float32(0.1)
        values = {"weight": weight, "bias": np.float32([sparse_bias])}
        write_torch_file(folder / "sparse_linear.pt", values, seed, dtype)
    if "colbert" in heads:
        shapes = {"weight": (hidden, hidden), "bias": (hidden,)}
        write_torch_file(folder / "colbert_linear.pt", shapes, seed, dtype)
    return folder


def random_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The tensor `name`, the same for the same name, shape and seed.

    Layer norms lie near 1; a matrix keeps the size of what it multiplies, so that attention mixes the tokens for real.
    """
    generator = np.random.default_rng([seed, *name.encode()])
    scale = 0.04 if "embeddings" in name or len(shape) == 1 else shape[-1] ** -0.5
    values = generator.standard_normal(shape, dtype=np.float32) * np.float32(scale)
    return values + np.float32(1) if name.endswith("LayerNorm.weight") else values


def write_safetensors(path: Path, tensors: Mapping[str, tuple[int, ...] | np.ndarray], seed: int, dtype: str) -> None:
    """Write tensors (a shape stands for random values) one at a time, so that memory stays at one tensor."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        shape = tensor if isinstance(tensor, tuple) else tensor.shape
        size = int(np.prod(shape)) * _NUMPY_TYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for _name, values in _stored(tensors, seed, dtype):
            file.write(values.data)


def write_torch_file(path: Path, tensors: Mapping[str, tuple[int, ...] | np.ndarray], seed: int, dtype: str) -> None:
    """Write what `torch.save` writes for an ordered dict of tensors; a shape stands for random values."""
    pickled = b"\x80\x02ccollections\nOrderedDict\n)R("
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for key, (name, values) in enumerate(_stored(tensors, seed, dtype)):
            strides = tuple(stride // values.itemsize for stride in values.strides)
            pickled += _unicode(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
            pickled += b"(" + _unicode("storage") + f"ctorch\n{_TORCH_STORAGES[dtype]}\n".encode()
            pickled += _unicode(str(key)) + _unicode("cpu") + _integer(values.size) + b"tQ"
            pickled += _integer(0) + _integers(values.shape) + _integers(strides)
            pickled += b"\x89ccollections\nOrderedDict\n)RtR"
            archive.writestr(f"archive/data/{key}", values.tobytes())
        archive.writestr("archive/data.pkl", pickled + b"u.")
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")


def tiny_tokenizer() -> Tokenizer:
    """A unigram tokenizer in XLM-RoBERTa's layout (specials 0 to 3, `<mask>` last) over pieces of the sample texts.

    The pieces are counted, not trained: a trainer gives other pieces at every run.
    """
    pieces: Counter[str] = Counter()
    for word in " ".join(text for texts in SENTENCES.values() for text in texts).split():
        marked = f"\u2581{unicodedata.normalize('NFKC', word)}"
        pieces.update(marked[i : i + size] for size in range(1, 7) for i in range(len(marked) - size + 1))
    characters = sorted(piece for piece in pieces if len(piece) == 1)
    longer = sorted((p for p in pieces if len(p) > 1), key=lambda p: (-pieces[p] * len(p), p))[: 1000 - len(characters)]
    scores = [(piece, math.log(pieces[piece] / pieces.total())) for piece in characters + longer]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram([*((name, 0.0) for name in special), *scores], unk_id=3))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    metaspace = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.add_special_tokens([*special, AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def _stored(
    tensors: Mapping[str, tuple[int, ...] | np.ndarray], seed: int, dtype: str
) -> Iterator[tuple[str, np.ndarray]]:
    for name, tensor in tensors.items():
        values = random_tensor(name, tensor, seed) if isinstance(tensor, tuple) else tensor
        if dtype == "BF16":
            yield name, (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)
        else:
            yield name, values.astype(_NUMPY_TYPES[dtype])


def _unicode(text: str) -> bytes:
    return b"X" + len(text.encode()).to_bytes(4, "little") + text.encode()


def _integer(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little")


def _integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"


def main() -> None:
    """Write a checkpoint from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny")
    parser.add_argument(
        "--tokenizer", type=Path, help="folder with a tokenizer.json; a full-size one needs 250,002 pieces"
    )
    parser.add_argument("--weights", default="model.safetensors")
    parser.add_argument("--dtype", choices=list(_NUMPY_TYPES), default="F32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reranker", action="store_true", help="in the layout of BAAI/bge-reranker-v2-m3")
    options = parser.parse_args()
    config = FULL_SIZE if options.size == "full" else TINY
    write_random_checkpoint(
        options.folder,
        config,
        tokenizer=options.tokenizer,
        seed=options.seed,
        weights=options.weights,
        dtype=options.dtype,
        classifier=int(options.reranker),
    )


if __name__ == "__main__":
    main()
