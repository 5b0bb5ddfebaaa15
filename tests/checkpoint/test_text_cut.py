"""Long texts are cut before they are tokenized, and nobody can tell: the ids are those of the whole text."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from random_checkpoint import tiny_tokenizer
from sample_texts import SENTENCES
from trivec.checkpoint.tokenizer import M3Tokenizer

TEXTS = [text for texts in SENTENCES.values() for text in texts]
PIECES = [
    *TEXTS,
    "<mask>",
    " <mask> ",
    "<s></s>",
    "\ufdfa",
    "\ufdfa" * 30,
    "漢字かな交じり文を読む。",
    "안녕하세요세계",
    "\u1112\u1161\u11ab",  # Hangul, in parts
    "การทดสอบภาษาไทยน้ำ",
    "e\u0301\u0327",
    "a" + "\u0301" * 50,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1e9\U0001f1ea",
    "क्षत्रिय",
    "\u0600\u0661",
    "①㌖ﬁ",
    "\u3000",
    "  ",
    "\n\t ",
    "\u200b",
    "\u00a0",
    "\x00\x1f",
    "\U00020000\U0002a6df" * 3,
    "\ue000\ue001",  # in no vocabulary
    "▁",
    "xyz" * 40,
    "\udc80",
]


def assert_same_as_the_whole(tokenizer: M3Tokenizer, texts: list[str], max_length: int) -> None:
    cut = tokenizer.encode_batch(texts, max_length)
    for i, (text, ids) in enumerate(zip(texts, cut.token_ids, strict=True)):
        whole = tokenizer._tokenizer.encode(text.replace("\udc80", "\ufffd")).ids
        assert ids.tolist() == (whole if len(whole) <= max_length else [*whole[: max_length - 1], 2])
        assert (i in cut.cut) == (len(whole) > max_length)


def mixtures(seed: int, count: int, length: int, pieces: list[str]) -> list[str]:
    generator = random.Random(seed)
    texts = []
    for _ in range(count):
        few = generator.sample(pieces, generator.choice((1, 2, 5, len(pieces))))
        joint = generator.choice(("", "", " "))
        text = joint.join(generator.choice(few) for _ in range(length))
        texts.append(text[: generator.randrange(length, 4 * length)])
    return texts


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> M3Tokenizer:
    return M3Tokenizer(tiny_checkpoint / "tokenizer.json")


@pytest.mark.parametrize("max_length", [2, 3, 16, 40])
def test_ids_are_those_of_the_whole_text(tokenizer: M3Tokenizer, max_length: int) -> None:
    assert_same_as_the_whole(tokenizer, mixtures(max_length, 40, 40 * max_length, PIECES), max_length)
    assert_same_as_the_whole(tokenizer, [piece * 30 * max_length for piece in PIECES], max_length)


def test_the_real_tokenizer_too(xlmr_tokenizer: Path) -> None:
    tokenizer = M3Tokenizer(xlmr_tokenizer / "tokenizer.json")
    for max_length in (2, 16, 40):
        assert_same_as_the_whole(tokenizer, mixtures(max_length, 40, 40 * max_length, PIECES), max_length)
        assert_same_as_the_whole(tokenizer, [piece * 30 * max_length for piece in PIECES], max_length)


@pytest.mark.slow
def test_every_kind_of_character_beside_a_cut(xlmr_tokenizer: Path) -> None:
    """Characters from all over Unicode, in runs without blanks: what joins across a cut would show here."""
    tokenizer = M3Tokenizer(xlmr_tokenizer / "tokenizer.json")
    generator = random.Random(0)
    codes = [code for code in range(0x20, 0x30000) if not 0xD800 <= code < 0xE000]
    for _ in range(20):
        start = generator.randrange(len(codes) - 400)
        pieces = [chr(code) for code in (*codes[start : start + 400 : 7], *generator.sample(codes, 20))]
        assert_same_as_the_whole(tokenizer, mixtures(start, 20, 1500, pieces), 24)


@pytest.mark.parametrize(
    "text", ["\ufdfa", TEXTS[0] + " ", "漢字かな交じり文を読む。", "안녕하세요세계", "การทดสอบภาษาไทย"]
)
def test_texts_of_all_scripts_are_cut(xlmr_tokenizer: Path, text: str) -> None:
    """Otherwise the tests above would compare whole texts with themselves."""
    whole = text * (200_000 // len(text))
    start = M3Tokenizer(xlmr_tokenizer / "tokenizer.json")._truncation.start_of(whole, 10_000)
    assert 9_000 < len(start) <= 10_000


def test_only_the_start_of_a_long_text_is_tokenized(tokenizer: M3Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    whole = M3Tokenizer._encode_all
    monkeypatch.setattr(
        M3Tokenizer, "_encode_all", lambda self, texts: read.extend(map(len, texts)) or whole(self, texts)
    )
    tokenizer.encode_batch([(TEXTS[0] + " ") * 10_000, "short"], 32)
    assert sum(read) < 1000


def test_a_start_that_holds_too_little_grows(tokenizer: M3Tokenizer) -> None:
    """Blanks vanish, so that the first thousands of characters may hold few tokens."""
    text = "a boat" + (" " * 500 + "x ") * 10 + "the lake " * 500
    assert_same_as_the_whole(tokenizer, [text, text[:5000], "a" + " " * 9000 + "b"], 32)


def with_part(change: Callable[[Tokenizer], None], folder: Path) -> M3Tokenizer:
    changed = tiny_tokenizer()
    change(changed)
    changed.save(str(folder / "tokenizer.json"))
    return M3Tokenizer(folder / "tokenizer.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.add_tokens([AddedToken("boat lake", normalized=False)]),
        lambda t: t.add_tokens([AddedToken("lake", normalized=True)]),
        lambda t: t.add_tokens([AddedToken("lake", normalized=False, single_word=True)]),
        lambda t: setattr(t, "normalizer", normalizers.Prepend("x")),
        lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Whitespace()),
    ],
    ids=["blank in a token", "normalized token", "whole word", "normalizer", "splitter"],
)
def test_where_a_part_is_not_known_nothing_is_cut(change: Callable[[Tokenizer], None], tmp_path: Path) -> None:
    tokenizer = with_part(change, tmp_path)
    text = "a boat lake " * 1000
    assert tokenizer._truncation.start_of(text, 100) == text
    assert_same_as_the_whole(tokenizer, [text], 16)


def test_a_token_across_the_cut_moves_it(tmp_path: Path) -> None:
    tokenizer = with_part(lambda t: t.add_tokens([AddedToken("lakes", normalized=False)]), tmp_path)
    for limit in range(100, 120):
        start = tokenizer._truncation.start_of("a\u6f22lakes\u5b57" * 300, limit)
        assert start.count("lakes") == start.count("lake") == start.count("l")
    assert_same_as_the_whole(tokenizer, ["a\u6f22lakes\u5b57" * 300], 16)
