"""How much faster is it to load vectors that were encoded before than to index: `trivec import` into Milvus Lite.

The same passages go into Milvus Lite three ways, in each round in another order, every time into a new file:

    index          `index_documents`: cut, encode, upsert; the model is loaded, and converted, before the clock starts
    import         `import_folder` of a folder that `trivec encode --out FOLDER/` made
    import-milvus  the same of a folder made with `--for-milvus`

The floor of an import is the disk: the bytes of the folder are read, and about as many written. Its rate is in the
report as `megabytes_a_second`, beside a plain copy of the folder's files (`copy`, synced). What is stored is compared:
the counts, and that every hundredth passage is found by its own text.

    python benchmarks/bulk_import.py                                      # nano, 20,000 passages of about 184 tokens
    python benchmarks/bulk_import.py --model FOLDER --passages 2000       # another model, with a cached conversion
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from texts import Texts
from trivec import M3Model
from trivec.documents import Document
from trivec.milvus import M3Collection, import_folder, index_documents


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="nano")
    options.add_argument("--passages", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, M3Model.load(arguments.model) as model:
        drawn = Texts(model.checkpoint.folder, model.max_length)
        # Of a fifth more, those that are one chunk each, so that all ways store the same rows.
        texts = drawn.paragraphs(arguments.passages * 6 // 5, seed=0)
        lengths = drawn.lengths(texts)
        texts = [text for text, length in zip(texts, lengths, strict=True) if length <= 500][: arguments.passages]
        work = Work(Path(folder), model, arguments.model, texts)
        print(json.dumps(work.measured(arguments.rounds)))


class Work:
    """The passages, encoded once in both layouts, and the ways to store them."""

    def __init__(self, folder: Path, model: M3Model, name: str, texts: list[str]) -> None:
        self._folder = folder
        self._model = model
        self._documents = [Document(f"p{i}", text, {"number": i}) for i, text in enumerate(texts)]
        lines = (
            json.dumps({"id": each.id, "text": each.text, **each.metadata}, ensure_ascii=False)
            for each in self._documents
        )
        (folder / "passages.jsonl").write_text("\n".join(lines), encoding="utf-8")
        for layout in ([], ["--for-milvus"]):
            target = folder / f"vectors{''.join(layout)}"
            encode = [sys.executable, "-m", "trivec", "encode", "passages.jsonl", "--out", f"{target}/", "-m", name]
            subprocess.run([*encode, *layout], cwd=folder, check=True)

    def measured(self, rounds: int) -> dict[str, object]:
        """Seconds and rates of each way, and how many times faster than indexing an import was, round by round."""
        ways: dict[str, Callable[[Path], object]] = {
            "index": self._index,
            "import": lambda file: self._import(self._folder / "vectors", file),
            "import-milvus": lambda file: self._import(self._folder / "vectors--for-milvus", file),
        }
        seconds: dict[str, list[float]] = {name: [] for name in [*ways, "copy"]}
        for number in range(rounds):
            names = list(ways)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                file = self._folder / f"{name}.db"
                shutil.rmtree(file, ignore_errors=True)
                began = time.perf_counter()
                ways[name](file)
                seconds[name].append(time.perf_counter() - began)
                print(f"round {number + 1}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr)
                self._check(file)
            seconds["copy"].append(self._copied())
        size = sum(path.stat().st_size for path in (self._folder / "vectors").glob("*.parquet")) / 1e6
        median = {name: statistics.median(values) for name, values in seconds.items()}
        times = [index / loaded for index, loaded in zip(seconds["index"], seconds["import"], strict=True)]
        return {
            "benchmark": "bulk_import",
            "model": self._model.name,
            "passages": len(self._documents),
            "seconds": {name: [round(value, 2) for value in values] for name, values in seconds.items()},
            "rows_a_second": {name: round(len(self._documents) / value) for name, value in median.items()},
            "megabytes_a_second": {name: round(size / median[name]) for name in ("import", "copy")},
            "import_is_times_index": {
                "rounds": [round(value, 1) for value in times],
                "median": statistics.median(times),
            },
        }

    def _index(self, file: Path) -> None:
        with M3Collection("passages", self._model, file) as collection:
            index_documents(collection, self._documents, show_progress=False)

    def _import(self, folder: Path, file: Path) -> None:
        import_folder(folder, "passages", file, show_progress=False)

    def _copied(self) -> float:
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        began = time.perf_counter()
        shutil.copytree(self._folder / "vectors", copy)
        os.sync()
        return time.perf_counter() - began

    def _check(self, file: Path) -> None:
        with M3Collection("passages", self._model, file) as collection:
            assert collection.count() == len(self._documents), collection.count()
            some = self._documents[::100]
            for document, hits in zip(
                some, collection.search([each.text for each in some], "dense", limit=3), strict=True
            ):
                assert document.text in [hit.text for hit in hits], document.id


if __name__ == "__main__":
    main()
