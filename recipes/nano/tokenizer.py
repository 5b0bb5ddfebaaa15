"""nano's tokenizer: a SentencePiece unigram model in XLM-R's layout, written as a `tokenizers` file."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from data import LANGUAGES, TARGET_LANGUAGES

if TYPE_CHECKING:
    from data import Split

PIECES = 24_000
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
UNUSED_IDS = range(len(SPECIAL))  # without a lexical weight
TARGET_CHARACTERS = 2_200_000
OTHER_CHARACTERS = 900_000


def training_text(split: Split) -> list[str]:
    """Text of every language, so that the ten target languages weigh more than the others.

    Texts in small sources (XQuAD, NTREX, Tatoeba) come first; large ones fill up to the limit.
    """
    by_language = _texts_by_language(split)
    chosen = []
    for code, texts in by_language.items():
        left = TARGET_CHARACTERS if code in TARGET_LANGUAGES else OTHER_CHARACTERS
        for text in texts:
            if left <= 0:
                break
            chosen.append(text)
            left -= len(text)
    return chosen


def _texts_by_language(split: Split) -> dict[str, list[str]]:
    by_language: dict[str, list[str]] = {code: [] for code in LANGUAGES}
    for document in split.documents:
        for sentence in document:
            for code, text in sentence.items():
                by_language[code].append(text)
    for code, pairs in split.pairs.items():
        by_language[code] += [text for text, _, _ in pairs]
        by_language["en"] += [english for _, english, _ in pairs]
    for passage in sorted(split.passages, key=lambda passage: "xquad" not in passage.source):
        if passage.language in by_language:
            by_language[passage.language] += [passage.text, *passage.questions]
    return by_language


def train_tokenizer(texts: Iterable[str], pieces: int = PIECES) -> bytes:
    """Train the unigram model; the ids are SentencePiece's own, `xlmr_tokenizer` moves them to XLM-R's layout."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(" ".join(text.split()) for text in texts),
        model_writer=model,
        model_type="unigram",
        vocab_size=pieces - 2,  # XLM-R's layout adds <pad> and <mask>
        character_coverage=0.9998,
        normalization_rule_name="nmt_nfkc",
        max_sentence_length=20_000,
        input_sentence_size=0,
        num_threads=2,
        minloglevel=1,
    )
    return model.getvalue()


def xlmr_tokenizer(model: bytes) -> str:
    """The `tokenizer.json` of a SentencePiece unigram model, laid out like XLM-R's.

    Ids: <s> 0, <pad> 1, </s> 2, <unk> 3, then the pieces in SentencePiece's order, <mask> last.
    """
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    vocab = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    vocab += [[piece.piece, piece.score] for piece in proto.pieces if piece.type == piece.NORMAL]
    vocab.append(["<mask>", 0.0])
    charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}

    def added(token: str, number: int) -> dict[str, object]:
        return {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": number > len(SPECIAL),  # of <mask> alone
            "rstrip": False,
            "normalized": False,
            "special": True,
        }

    begin, text, end = (
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    )
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(token, number) for number, token in enumerate(SPECIAL)]
        + [added("<mask>", len(vocab) - 1)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": charsmap},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, text, end],
            "pair": [begin, text, end, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
            "special_tokens": {
                token: {"id": token, "ids": [number], "tokens": [token]} for token, number in (("<s>", 0), ("</s>", 2))
            },
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False},
    }
    return json.dumps(document, ensure_ascii=False)


def differing_texts(model: bytes, tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """Texts that SentencePiece itself cuts into other pieces than the `tokenizers` file does."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    different = []
    for text in texts:
        expected = [piece for piece in processor.encode(text, out_type=str) if piece != "▁"]
        found = [piece for piece in tokenizer.encode(text, add_special_tokens=False).tokens if piece != "▁"]
        if "".join(expected) != "".join(found) or Counter(expected) != Counter(found):
            different.append(text)
    return different


def write_tokenizer(folder: Path, tokenizer_json: str, max_tokens: int) -> None:
    """Write tokenizer.json and the configuration files that `transformers` looks for."""
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    special = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    config = {"tokenizer_class": "XLMRobertaTokenizer", **special, "model_max_length": max_tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")
