"""`huggingface_hub.InferenceClient`, which posts to the root; the form of `inputs` says what it wants."""

from __future__ import annotations

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from answers import KEY, TOLERANCE, assert_same
from trivec import M3Model
from trivec.encoding import TruncationWarning


def test_feature_extraction(url: str, texts: list[str], dense: np.ndarray):
    client = InferenceClient(url)
    assert_same(client.feature_extraction(texts), dense)
    assert_same(client.feature_extraction(texts[0]), dense[:1])
    assert_same(client.feature_extraction(texts[:2], model=f"{url}/embed"), dense[:2])


def test_feature_extraction_heeds_its_options(url: str, model: M3Model, texts: list[str]):
    client = InferenceClient(url)
    long = texts[1]
    raw = client.feature_extraction([long], normalize=False)
    assert_same(raw / np.linalg.norm(raw), model.encode([long]).dense)
    options = {"normalize": True, "truncate": True, "truncation_direction": "right", "dimensions": raw.shape[1]}
    assert_same(client.feature_extraction([long], **options), model.encode([long]).dense)


def test_a_text_beyond_the_models_length(url: str, model: M3Model):
    client = InferenceClient(url)
    text = "boat " * (model.max_length + 100)
    with pytest.warns(TruncationWarning):
        cut = model.encode([text]).dense
    assert_same(client.feature_extraction(f"{text} lake", truncate=True), cut)
    with pytest.raises(HfHubHTTPError, match=f"{model.max_length:,}"):
        client.feature_extraction(text, truncate=False)


def test_sentence_similarity(url: str, texts: list[str], dense: np.ndarray):
    scores = InferenceClient(url).sentence_similarity(texts[0], other_sentences=texts[1:])
    assert np.abs(np.array(scores) - dense[1:] @ dense[0]).max() <= TOLERANCE


def test_errors_are_told(url: str, guarded_url: str):
    with pytest.raises(HfHubHTTPError, match="key"):
        InferenceClient(guarded_url).feature_extraction("a")
    with pytest.raises(HfHubHTTPError, match="input"):
        InferenceClient(url).feature_extraction([])
    with pytest.raises(HfHubHTTPError, match=r"\b8\b"):
        InferenceClient(url).feature_extraction("a", dimensions=8)


def test_with_a_key(guarded_url: str, texts: list[str], dense: np.ndarray):
    assert_same(InferenceClient(base_url=guarded_url, api_key=KEY).feature_extraction(texts[:4]), dense[:4])
