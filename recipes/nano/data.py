"""The texts `nano` is trained on and measured with, read from the data folder (its README names formats and licences).

The development split is set aside here, before anything is trained, the tokenizer included: eight XQuAD articles in
every language and in every set derived from SQuAD, eight NTREX documents, and 100 Tatoeba pairs of each language
(with every other pair of the same English sentence). Nothing else may read the data folder.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPLIT_SEED = 3
TATOEBA_DEV_PAIRS = 100

# The ten languages whose questions and passages are measured, by XQuAD's codes.
TARGET_LANGUAGES = ("en", "de", "es", "zh", "ar", "hi", "ru", "th", "tr", "vi")

# Every language the model is trained on: code, NTREX's code, Tatoeba's code.
LANGUAGES = {
    "en": ("eng", ""),
    "de": ("deu", "deu"),
    "es": ("spa", "spa"),
    "zh": ("zho-CN", "cmn"),
    "ar": ("arb", "ara"),
    "hi": ("hin", "hin"),
    "ru": ("rus", "rus"),
    "th": ("tha", "tha"),
    "tr": ("tur", "tur"),
    "vi": ("vie", "vie"),
    "el": ("ell", "ell"),
    "ro": ("ron", "ron"),
    "fr": ("fra", "fra"),
    "it": ("ita", "ita"),
    "pt": ("por", "por"),
    "nl": ("nld", "nld"),
    "pl": ("pol", "pol"),
    "ja": ("jpn", "jpn"),
    "ko": ("kor", "kor"),
    "sv": ("swe", "swe"),
    "fi": ("fin", "fin"),
}
PAIR_LANGUAGES = tuple(code for code in LANGUAGES if code != "en")

# The dev articles' names in the Spanish and the Italian translation of SQuAD.
TRANSLATED_TITLES = {
    "Huguenot": ("Hugonotes", "Ugonotti"),
    "Warsaw": ("Varsovia", "Varsavia"),
    "Economic_inequality": ("Desigualdad económica", "Disuguaglianza economica"),
    "Pharmacy": ("Farmacia",),
    "Super_Bowl_50": ("Super Bowl _ 50", "Super Bowl 50"),
    "Normans": ("Normandos", "Normanni"),
    "Intergovernmental_Panel_on_Climate_Change": (
        "Intergovernmental _ Panel _ on _ Climate _ Change",
        "Gruppo intergovernativo sul cambiamento climatico",
    ),
    "American_Broadcasting_Company": (
        "American Broadcasting Company (en inglés).",
        "ABC (Stati Uniti d'America)",
    ),
}


@dataclass(frozen=True)
class Passage:
    """A passage with its questions; `aligned` names the same paragraph in other languages."""

    text: str
    questions: tuple[str, ...]
    language: str
    article: str
    source: str
    aligned: str = ""


@dataclass(frozen=True)
class Split:
    """One half of the data.

    Attributes:
        passages: All passages with questions.
        documents: NTREX: for each document its sentences in order, each a mapping of language to text.
        pairs: For each language, (sentence, English sentence, source).
        words: For each language, (word, English word).
    """

    passages: list[Passage] = field(default_factory=list)
    documents: list[list[dict[str, str]]] = field(default_factory=list)
    pairs: dict[str, list[tuple[str, str, str]]] = field(default_factory=lambda: defaultdict(list))
    words: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))


def load_splits(folder: Path) -> tuple[Split, Split]:
    """Read everything and set the development split aside.

    Args:
        folder: The data folder.

    Returns:
        The training split and the development split.
    """
    train, dev = Split(), Split()
    _split_passages(folder, train, dev)
    _split_documents(folder, train, dev)
    _split_pairs(folder, train, dev)
    short_codes = {"cmn": "zh", "arb": "ar"}
    for file in sorted(folder.glob("dict_wiktionary_*.jsonl")):
        for record in _records(file):
            language = short_codes.get(record["lang"], record["lang"])
            if language in LANGUAGES and 1 < len(record["query"]) + 1 < 40:
                train.words[language].append((record["query"], record["pos"]))
    return train, dev


def dev_articles(folder: Path) -> list[str]:
    """The XQuAD articles set aside."""
    titles = sorted({record["doc"] for record in _records(folder / "qa_xquad_en.jsonl")})
    return sorted(random.Random(SPLIT_SEED).sample(titles, 8))  # noqa: S311 - no secret


def _split_passages(folder: Path, train: Split, dev: Split) -> None:
    articles = dev_articles(folder)
    if set(articles) != set(TRANSLATED_TITLES):
        raise ValueError(f"the translated titles of {sorted(set(articles) ^ set(TRANSLATED_TITLES))} are not listed")
    held_out = set(articles) | {title for titles in TRANSLATED_TITLES.values() for title in titles}
    for file in sorted(folder.glob("qa_*.jsonl")):
        name = file.stem
        for number, record in enumerate(_records(file)):
            language = {"nb": "no"}.get(record["lang"], record["lang"].split("-")[0])
            squad = "squad" in name or "xquad" in name
            passage = Passage(
                text=record["pos"],
                questions=tuple(record["queries"]),
                language="zh" if name == "qa_drcd_zhTW" else language,
                article=f"{name}/{record['doc'] or number}" if not name.startswith("qa_xquad") else record["doc"],
                source=name,
                aligned=record.get("pid", ""),
            )
            if not squad or record["doc"] not in held_out:
                train.passages.append(passage)
            elif name.startswith("qa_xquad"):
                dev.passages.append(passage)


def _split_documents(folder: Path, train: Split, dev: Split) -> None:
    documents: dict[str, list[tuple[int, dict[str, str]]]] = defaultdict(list)
    for file in sorted(folder.glob("multi_ntrex_*.jsonl")):
        for record in _records(file):
            texts = {code: record["text"][ntrex] for code, (ntrex, _) in LANGUAGES.items() if ntrex in record["text"]}
            documents[record["doc"]].append((record["n"], texts))
    held_out = set(random.Random(SPLIT_SEED).sample(sorted(documents), 8))  # noqa: S311
    for name, sentences in sorted(documents.items()):
        ordered = [texts for _, texts in sorted(sentences, key=lambda item: item[0])]
        (dev if name in held_out else train).documents.append(ordered)


def _split_pairs(folder: Path, train: Split, dev: Split) -> None:
    codes = {tatoeba: code for code, (_, tatoeba) in LANGUAGES.items() if tatoeba}
    tatoeba: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for record in _records(folder / "par_tatoeba.jsonl"):
        if record["lang"] in codes:
            tatoeba[codes[record["lang"]]].append((record["query"], record["pos"], "tatoeba"))
    held_out: set[str] = set()
    for code, pairs in sorted(tatoeba.items()):
        count = min(TATOEBA_DEV_PAIRS, len(pairs) // 4)
        dev.pairs[code] = random.Random(f"{SPLIT_SEED} {code}").sample(pairs, count)  # noqa: S311
        held_out |= {english for _, english, _ in dev.pairs[code]}
    for code, pairs in sorted(tatoeba.items()):
        train.pairs[code] += [pair for pair in pairs if pair[1] not in held_out]
    for name, source in (("par_mlqe_pe", "mlqe"), ("par_indian", "indian")):
        for record in _records(folder / f"{name}.jsonl"):
            if record["lang"] in PAIR_LANGUAGES and record["pos"] not in held_out:
                train.pairs[record["lang"]].append((record["query"], record["pos"].strip(" ."), source))


def _records(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
