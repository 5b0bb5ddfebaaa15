"""Writes the development split that `nano` never saw as BEIR folders, for `trivec eval`.

    python recipes/nano/held_out.py DATA_FOLDER OUT_FOLDER

One folder for each task and language: `xquad-de` (questions to paragraphs), `xquad-en-de` (German questions to English
paragraphs), `tatoeba-de` and `ntrex-de` (sentences to their English translation). The folder `untrained` is the
control, a model of nano's architecture and tokenizer with random weights near the identity.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path

import torch

from data import load_splits
from evaluation import Task, dev_tasks
from initial import near_identity
from nano import CONFIG
from tokenizer import UNUSED_IDS
from trivec.training.m3 import TrainableM3
from trivec.training.result_folder import write_model_folder


def write_beir(task: Task, folder: Path) -> None:
    """Write one task as corpus.jsonl, queries.jsonl and qrels/test.tsv."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = [json.dumps({"_id": f"d{i}", "text": text}, ensure_ascii=False) for i, text in enumerate(task.passages)]
    queries = [json.dumps({"_id": f"q{i}", "text": text}, ensure_ascii=False) for i, text in enumerate(task.queries)]
    qrels = [f"q{i}\td{right}\t1" for i, right in enumerate(task.right.tolist())]
    (folder / "corpus.jsonl").write_text("\n".join(corpus) + "\n", encoding="utf-8")
    (folder / "queries.jsonl").write_text("\n".join(queries) + "\n", encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text(
        "\n".join(["query-id\tcorpus-id\tscore", *qrels]) + "\n", encoding="utf-8"
    )


def main() -> None:
    """Write every task and the control."""
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    _train, dev = load_splits(data)
    for task in dev_tasks(dev):
        write_beir(task, out / f"{task.group}-{task.name}")
    torch.manual_seed(1)
    control = TrainableM3(CONFIG, UNUSED_IDS)
    near_identity(control)
    write_model_folder(control, out / "untrained", Path(str(files("trivec"))) / "data" / "nano", half=True)


if __name__ == "__main__":
    main()
