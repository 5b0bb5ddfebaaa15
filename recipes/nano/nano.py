"""Make `nano`, the small model that trivec carries: `python recipes/nano/nano.py --data DATA --out FOLDER`.

Stages, each kept in FOLDER so that a second run goes on where the first stopped: the development split is set aside,
the tokenizer is trained, then word vectors (`words.py`), which the encoder starts from (`initial.py`), then the lexical
weights (`lexical.py`), then all of the model by `trivec.training`, then once more the lexical weights. The fusion
weights, the figures and the model folder come last. Needs `trivec[train]`, sentencepiece, protobuf and bm25s. With
`--minutes` the training fits the clock; with `--steps` alone it repeats bit for bit on the same machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from batches import NanoBatches, Recipe
from card import model_card
from data import Split, load_splits
from evaluation import Task, bm25_table, dev_tasks, summary, table
from initial import near_identity, weigh_token_vectors, weighted_bag_of_words
from lexical import LexicalTexts, lexical_error, train_lexical
from tokenizer import (
    PIECES,
    UNUSED_IDS,
    differing_texts,
    train_tokenizer,
    training_text,
    write_tokenizer,
    xlmr_tokenizer,
)
from trivec.checkpoint import M3Config
from trivec.support.progress import ProgressBar
from trivec.training.losses import LossSettings
from trivec.training.m3 import TrainableM3
from trivec.training.result_folder import check_model_folder, round_to_half, write_model_folder
from trivec.training.run_folder import Progress, RunFolder
from trivec.training.trainer import Evaluate, Trainer, TrainingSettings
from words import aligned_columns, factorised_vectors, train_words

logger = logging.getLogger("nano")

CONFIG = M3Config(
    vocab_size=PIECES,
    hidden_size=256,
    num_layers=3,
    num_heads=4,
    intermediate_size=1024,
    max_position_embeddings=1026,
    type_vocab_size=1,
    pad_token_id=1,
    layer_norm_eps=1e-5,
)
LOSS = LossSettings(temperature=0.05, sum_weights=(1.0, 1.0, 1.0), loss_weights=(1.0, 0.3, 1.0))
WORD_STEPS = 3000
QUICK_LANGUAGES = ("en", "zh", "ar", "ru", "th")  # watched during training; the figures at the end are of all
WORD_RECIPE = Recipe(
    tasks=(
        ("question", 2.0),
        ("crossed question", 2.0),
        ("switched question", 1.0),
        ("news", 1.5),
        ("sentence", 2.0),
        ("short sentence", 2.0),
        ("word", 1.0),
    ),
    question_batch=140,
    sentence_batch=256,
    passage_pieces=160,
)


RECIPE = Recipe(
    # Mostly the large sets, which cannot be learnt by heart, and passages as long as those that are measured.
    tasks=(
        ("question", 5.0),
        ("crossed question", 0.8),
        ("switched question", 1.2),
        ("news", 1.2),
        ("sentence", 1.0),
        ("short sentence", 1.0),
    ),
    question_batch=64,
    passage_pieces=200,
    whole_share=0.2,
    by_size=True,
)
LEARNING_RATE, EMBEDDING_LEARNING_RATE = 2e-4, 4e-5
LEXICAL_STEPS, LEXICAL_LEARNING_RATE = 1100, 7e-4
LAST_LEXICAL_STEPS, LAST_LEXICAL_LEARNING_RATE = 500, 5e-4
LEXICAL_WEIGHT, LEXICAL_TOKENS = 6.0, 1300  # of the lexical error beside the unified loss, and of its batches
AVERAGES = (0.0, 0.3, 0.5, 0.7, 1.0)


class NanoTrainer(Trainer):
    """Trains on texts' lexical weights too, so that what BM25 knows is kept; ends after `limit` seconds at the latest.

    The learning rate follows steps or time, whichever is further on.
    """

    limit = math.inf
    texts: LexicalTexts

    def _step(self, started: float, bar: ProgressBar) -> None:
        batch = self.texts.batch(LEXICAL_STEPS + self.progress.step, LEXICAL_TOKENS)
        (LEXICAL_WEIGHT * lexical_error(self.model, batch)).backward()
        super()._step(started, bar)  # adds its gradients to these

    def share_done(self, started: float) -> float:
        """See `Trainer.share_done`."""
        return max(super().share_done(started), (time.monotonic() - started) / self.limit)


def main() -> None:
    """Train nano."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the training data")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, help="end after so many minutes of training, at --steps at the latest")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    torch.set_flush_denormal(True)  # AdamW's moments of rare pieces fade to denormals, which take 20 times as long
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)

    train, dev = load_splits(arguments.data)
    tasks = dev_tasks(dev)
    tokenizer = tokenizer_stage(train, dev, arguments.out)
    logger.info("BM25\n%s", summary(bm25_table(tokenizer, tasks)))
    vectors, gains = words_stage(train, tokenizer, arguments.out, arguments.seed)

    torch.manual_seed(arguments.seed)
    source = NanoBatches(train, tokenizer, RECIPE, LOSS, arguments.seed)
    texts = LexicalTexts(source, arguments.seed)
    model = TrainableM3(CONFIG, UNUSED_IDS)
    weighted_bag_of_words(model, vectors, gains, texts.rarity)
    lexical_stage(model, texts, arguments.out)
    quick = [task for task in tasks if task.group != "ntrex" and task.name in QUICK_LANGUAGES]

    def evaluate(model: TrainableM3) -> dict[str, float]:
        figures = table(model, tokenizer, quick)
        logger.info("\n%s", summary(figures))
        return watched(figures)

    start = copy.deepcopy(model)
    settings = TrainingSettings(
        steps=arguments.steps, learning_rate=LEARNING_RATE, warmup_steps=30, loss=LOSS, save_every=100
    )
    trainer = NanoTrainer(model, source, settings, RunFolder(arguments.out / "run"), show_progress=False)
    trainer.texts = texts
    trainer.optimizer.param_groups[0]["highest_rate"] = EMBEDDING_LEARNING_RATE
    if arguments.minutes is not None:
        trainer.limit = 60 * arguments.minutes
    progress = trainer.run()
    logger.info("%s", progress)
    kept_share = average_with(model, start, evaluate)
    # What averaging and the other heads took from the lexical weights, they learn again.
    train_lexical(model, texts, LEXICAL_STEPS + progress.step, LAST_LEXICAL_STEPS, LAST_LEXICAL_LEARNING_RATE)
    finish(model, tokenizer, tasks, progress, kept_share, arguments)


def average_with(model: TrainableM3, start: TrainableM3, evaluate: Evaluate) -> float:
    """Move a trained model back towards its start, as far as it does better there on the development split.

    Trained weights and their start, averaged, keep more of what both know: the small data is learnt by heart otherwise.

    Returns:
        The share of the trained weights that was best.
    """
    trained, before = copy.deepcopy(model.state_dict()), start.state_dict()
    found = {}
    for share in AVERAGES:
        model.load_state_dict({name: share * trained[name] + (1 - share) * before[name] for name in trained})
        found[share] = evaluate(model)["mean"]
    best = max(found, key=found.__getitem__)
    model.load_state_dict({name: best * trained[name] + (1 - best) * before[name] for name in trained})
    logger.info("share of the trained weights: %s of %s", best, found)
    return best


def finish(
    model: TrainableM3,
    tokenizer: Tokenizer,
    tasks: list[Task],
    progress: Progress,
    kept_share: float,
    arguments: argparse.Namespace,
) -> None:
    """Round the weights as they will be stored, measure them, and write model folder, figures and card."""
    round_to_half(model)
    figures = table(model, tokenizer, tasks)
    logger.info("nano\n%s", summary(figures))
    torch.manual_seed(arguments.seed)
    control = TrainableM3(CONFIG, UNUSED_IDS)
    near_identity(control)
    report = {
        "nano": figures,
        "untrained": table(control, tokenizer, tasks),
        "bm25": bm25_table(tokenizer, tasks),
        "steps": progress.step,
        "tokens": progress.tokens,
        "minutes": progress.seconds / 60,
        "seed": arguments.seed,
        "word_steps": WORD_STEPS,
        "sparse_loss_weight": LOSS.loss_weights[1],
        "lexical_weight": LEXICAL_WEIGHT,
        "lexical_steps": LEXICAL_STEPS,
        "last_lexical_steps": LAST_LEXICAL_STEPS,
        "learning_rates": f"{LEARNING_RATE:g} (word embeddings {EMBEDDING_LEARNING_RATE:g})",
        "kept_share": kept_share,
        "layers": CONFIG.num_layers,
        "hidden_size": CONFIG.hidden_size,
        "max_tokens": CONFIG.max_position_embeddings - 2,
        "pieces": CONFIG.vocab_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    logger.info("untrained\n%s", summary(report["untrained"]))
    (arguments.out / "figures.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    folder = arguments.out / "model"
    write_model_folder(model, folder, arguments.out, half=True, fusion_weights=tuple(figures["fusion"]))
    (folder / "README.md").write_text(model_card(report), encoding="utf-8")
    texts = [task.queries[0] for task in tasks if task.group == "xquad"]
    logger.info("largest difference of the stored model: %.1e", check_model_folder(model, folder, texts))


def watched(figures: dict) -> dict[str, float]:
    """The figure that decides which weights are best (the mean of what nano is for), then its parts."""
    parts = {
        f"{group} {mode}": figures[group][mode]["R@1"]["mean"]
        for group in ("xquad", "xquad-en", "tatoeba")
        for mode in ("dense", "sparse", "multi", "all")
    }
    parts["xquad nDCG all"] = figures["xquad"]["all"]["nDCG@10"]["mean"]
    deciding = [parts["xquad dense"], parts["xquad sparse"], parts["xquad multi"], parts["xquad all"]]
    deciding += [parts["xquad-en all"], parts["tatoeba all"]]
    return {"mean": float(np.mean(deciding)), **parts}


def tokenizer_stage(train: Split, dev: Split, out: Path) -> Tokenizer:
    """Train the tokenizer, or read it."""
    file = out / "tokenizer.json"
    if not file.exists():
        model = train_tokenizer(training_text(train))
        (out / "sentencepiece.model").write_bytes(model)
        write_tokenizer(out, xlmr_tokenizer(model), CONFIG.max_position_embeddings - 2)
        texts = [passage.text for passage in dev.passages]
        different = differing_texts(model, Tokenizer.from_file(str(file)), texts)
        logger.info("%d of %d texts are cut otherwise by SentencePiece", len(different), len(texts))
    return Tokenizer.from_file(str(file))


def words_stage(train: Split, tokenizer: Tokenizer, out: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Train the word vectors, or read them."""
    file = out / "words.npz"
    if not file.exists():
        vectors, idf = factorised_vectors(tokenizer, aligned_columns(train), CONFIG.hidden_size - 3, seed)
        logger.info("factorised")
        source = NanoBatches(train, tokenizer, WORD_RECIPE, LOSS, seed)
        vectors, gains = train_words(vectors, idf, source, WORD_STEPS, seed)
        logger.info("words trained")
        np.savez(file, vectors=vectors, gains=gains)
    stored = np.load(file)
    return stored["vectors"], stored["gains"]


def lexical_stage(model: TrainableM3, texts: LexicalTexts, out: Path) -> None:
    """Teach the lexical weights, or read what was taught; then token vectors are weighted by them."""
    file = out / "lexical.pt"
    if not file.exists():
        train_lexical(model, texts, 0, LEXICAL_STEPS, LEXICAL_LEARNING_RATE)
        torch.save(model.state_dict(), file)
    model.load_state_dict(torch.load(file))
    weigh_token_vectors(model)


if __name__ == "__main__":
    main()
