"""The calls that `M3Tokenizer` has from Hugging Face's tokenizers, against transformers on the real XLM-R tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sample_texts import SENTENCES
from trivec.checkpoint.tokenizer import M3Tokenizer

TEXTS = [text for texts in SENTENCES.values() for text in texts]
TEXTS += ["", "  two  spaces ", "ﬁ Ⅷ ｆｕｌｌ", "🚣‍♀️ emoji 😀", "<s> spelled </s>", "tab\tand\nline"]


def test_calls_give_what_transformers_gives(xlmr_tokenizer: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(xlmr_tokenizer / "tokenizer.json"),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    ours = M3Tokenizer(xlmr_tokenizer / "tokenizer.json")
    assert len(ours) == len(theirs)
    for text in TEXTS:
        wanted = theirs(text, return_offsets_mapping=True)
        got = ours(text, return_offsets_mapping=True)
        for name in ("input_ids", "attention_mask", "offset_mapping"):
            assert got[name] == wanted[name], text
        ids = ours.encode(text)
        assert ids == theirs.encode(text)
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text, truncation=True, max_length=5) == theirs.encode(text, truncation=True, max_length=5)
        assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)
        assert ours.tokenize(text) == theirs.tokenize(text)
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(
                ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False
            )
