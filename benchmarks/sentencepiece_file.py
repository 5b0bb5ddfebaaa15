"""Writes the tokenizer that bge-m3-lite reads, `sentencepiece.bpe.model`, from a checkpoint's `tokenizer.json`.

A SentencePiece model is a protocol-buffer message; the few fields needed are written by hand. XLM-RoBERTa's ids are the
pieces' numbers plus one, after `<s>`, `<pad>`, `</s>` and `<unk>`, with `<mask>` at the end.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_UNIGRAM = 1


def write(tokenizer_json: Path, path: Path) -> None:
    """Translate the pieces, their scores and, if there is one, the precompiled character map."""
    tokenizer = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    special = [("<unk>", 0.0, _UNKNOWN), ("<s>", 0.0, _CONTROL), ("</s>", 0.0, _CONTROL)]
    vocabulary = [(text, score, _NORMAL) for text, score in tokenizer["model"]["vocab"][4:] if text != "<mask>"]
    message = b"".join(_bytes(1, _piece(*piece)) for piece in [*special, *vocabulary])
    message += _bytes(2, _number(3, _UNIGRAM))
    message += _bytes(3, _bytes(2, _character_map(tokenizer["normalizer"])))
    path.write_bytes(message)


def _piece(text: str, score: float, kind: int) -> bytes:
    return _bytes(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind)


def _character_map(normalizer: dict) -> bytes:
    steps = normalizer.get("normalizers", [normalizer])
    return b"".join(base64.b64decode(s["precompiled_charsmap"]) for s in steps if s["type"] == "Precompiled")


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])
